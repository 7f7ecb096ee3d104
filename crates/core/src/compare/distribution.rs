//! The two distributions that tests are read from: the normal one and Student's.

/// Of a normal variable, 95 % lie within so many standard deviations.
pub(super) const Z_95: f64 = 1.959_963_984_540_054;

/// The same of 99 %.
pub(super) const Z_99: f64 = 2.575_829_303_548_901;

/// How likely chi-squared with one degree of freedom is this or more.
pub(super) fn p_of_chi_squared(chi_squared: f64) -> f64 {
    erfc((chi_squared.max(0.0) / 2.0).sqrt())
}

/// The complementary error function for x ≥ 0: a series near zero, a continued fraction (Lentz's way) beyond.
fn erfc(x: f64) -> f64 {
    if x < 2.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return 1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    // From the far end: 60 steps are more than double precision asks for.
    let fraction = (1..=60).rev().fold(x, |below, n| x + f64::from(n) / 2.0 / below);
    (-x * x).exp() / fraction * std::f64::consts::FRAC_2_SQRT_PI / 2.0
}

/// How likely Student's t with this many degrees of freedom is this far from zero or farther, either side.
pub(super) fn p_of_t(t: f64, freedom: f64) -> f64 {
    beta_share(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// Within how many standard errors 95 % of Student's t lie.
pub(super) fn t_95(freedom: f64) -> f64 {
    let (mut low, mut high) = (1.0, 1e4);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if p_of_t(middle, freedom) > 0.05 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// The regularised incomplete beta function.
fn beta_share(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    // The fraction converges quickly on one side of the mean only.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

/// Its continued fraction, by Lentz's method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let off_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / off_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..500 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for factor in [even, odd] {
            d = 1.0 / off_zero(1.0 + factor * d);
            c = off_zero(1.0 + factor / c);
            fraction *= c * d;
        }
        if (fraction - before).abs() < 1e-15 * fraction.abs() {
            break;
        }
    }
    fraction
}

/// ln Γ(x) for x > 0, by Lanczos.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 6] = [
        76.180_091_729_471_46,
        -86.505_320_329_416_77,
        24.014_098_240_830_91,
        -1.231_739_572_450_155,
        0.120_865_097_386_617_9e-2,
        -0.539_523_938_495_3e-5,
    ];
    let shifted = x + 5.5;
    let sum = TERMS
        .iter()
        .enumerate()
        .fold(1.000_000_000_190_015, |sum, (i, term)| sum + term / (x + 1.0 + i as f64));
    (x + 0.5) * shifted.ln() - shifted + (2.506_628_274_631_000_5 * sum / x).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of scipy 1.x: `chi2.sf(x, 1)`, `2 * t.sf(x, df)`, `t.ppf(.975, df)`.
    #[test]
    fn agree_with_another_implementation() {
        for (chi_squared, p) in CHI_SQUARED {
            assert!((p_of_chi_squared(chi_squared) / p - 1.0).abs() < 1e-9, "{chi_squared}");
        }
        for (t, freedom, p) in STUDENT {
            assert!((p_of_t(t, freedom) / p - 1.0).abs() < 1e-6, "{t} {freedom}: {}", p_of_t(t, freedom));
        }
        for (freedom, t) in STUDENT_95 {
            assert!((t_95(freedom) / t - 1.0).abs() < 1e-6, "{freedom}");
        }
    }
    const CHI_SQUARED: [(f64, f64); 10] = [
        (0.0001, 0.9920212873707368),
        (0.5, 0.47950012218695337),
        (1.0, 0.31731050786291115),
        (3.841458820694124, 0.04999999999999989),
        (6.634896601021213, 0.010000000000000028),
        (7.9, 0.004943479736228239),
        (8.1, 0.004426525857919834),
        (16.79, 4.1752751389197874e-05),
        (50.0, 1.537459794428033e-12),
        (400.0, 5.507248237212379e-89),
    ];
    const STUDENT: [(f64, f64, f64); 7] = [
        (0.1, 1.5, 0.9320414534869628),
        (1.0, 1.0, 0.5000000000000001),
        (2.0, 7.3, 0.08394103933410313),
        (2.0, 18.0, 0.060821465669332435),
        (5.0, 38.0, 1.3276418057994204e-05),
        (12.0, 18.4, 3.854734408505417e-10),
        (3.0, 1000.0, 0.0027667090442381925),
    ];
    const STUDENT_95: [(f64, f64); 5] = [
        (1.0, 12.706204736174694),
        (4.0, 2.7764451051977934),
        (18.0, 2.1009220402410382),
        (37.5, 2.025280941194336),
        (500.0, 1.9647198374673676),
    ];
}
