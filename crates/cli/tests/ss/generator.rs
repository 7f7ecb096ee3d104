//! Command lines by the dice: options, states and expressions over addresses and ports that are there, or nearly.
//!
//! Written as ss wants them: a space round every token.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sock_diag::Family;
use sockeye_tests::Dice;

use crate::model::{Atom, Case, Comparison, Expr, Join, STATE_WORDS, Shown, Side};
use crate::world::{CHOSEN_PORTS, World};

/// What a generator may use.
pub(crate) struct Generator<'w> {
    pub(crate) world: &'w World,
    pub(crate) dice: Dice,
    /// `fwmark` needs CAP_NET_ADMIN.
    pub(crate) marks: bool,
    /// Path of this process's cgroup in the file system; None where there is no cgroup2.
    pub(crate) cgroup: Option<String>,
    /// Of the options of the case being made.
    family: Option<Family>,
}

impl<'w> Generator<'w> {
    pub(crate) fn new(world: &'w World, dice: Dice, marks: bool, cgroup: Option<String>) -> Generator<'w> {
        Generator { world, dice, marks, cgroup, family: None }
    }

    pub(crate) fn case(&mut self) -> Case {
        let mut letters: Vec<&str> = Vec::new();
        let mut shown = Shown::ByDefault;
        // All states most often: it is where differences can show. Twice: the last one counts.
        for _ in 0..if self.dice.chance(6) { 2 } else { 1 } {
            let roll = self.dice.roll(100);
            if roll < 65 {
                letters.push("a");
                shown = Shown::All;
            } else if roll < 82 {
                letters.push("l");
                shown = Shown::Listening;
            }
        }
        let (tcp, udp) =
            *self.dice.one_of(&[(true, false), (true, false), (true, true), (false, true), (false, false)]);
        letters.extend(tcp.then_some("t"));
        letters.extend(udp.then_some("u"));
        let mut family = None;
        for _ in 0..if self.dice.chance(4) { 2 } else { 1 } {
            match self.dice.roll(100) {
                0..18 => {
                    letters.push("4");
                    family = Some(Family::Inet);
                }
                18..33 => {
                    letters.push("6");
                    family = Some(Family::Inet6);
                }
                _ => {}
            }
        }
        self.family = family;
        let options = match (letters.is_empty(), self.dice.chance(50)) {
            (true, _) => vec![],
            (false, true) => vec![format!("-{}", letters.concat())],
            (false, false) => letters.iter().map(|letter| format!("-{letter}")).collect(),
        };
        let clauses = match self.dice.roll(100) {
            0..62 => 0,
            62..80 => 1,
            80..93 => 2,
            _ => 3,
        };
        let clauses = (0..clauses)
            .map(|_| (self.dice.chance(55), self.dice.roll(STATE_WORDS.len() as u64) as usize))
            .collect();
        let expr = self.dice.chance(88).then(|| self.expr(3));
        Case { options, tcp, udp, family, shown, clauses, expr }
    }

    fn expr(&mut self, depth: usize) -> Expr {
        let roll = self.dice.roll(100);
        if depth == 0 || roll < 40 {
            return Expr::Atom(self.atom());
        }
        if roll < 55 {
            let not = self.word(&["not", "!"]);
            return Expr::Not(not, Box::new(self.expr(depth - 1)));
        }
        let roll = self.dice.roll(100);
        let operands = 2 + self.dice.roll(3);
        let join = |generator: &mut Self| {
            let is_or = match roll {
                0..32 => false,
                32..86 => true,
                _ => generator.dice.chance(50),
            };
            match is_or {
                false => Join::And(generator.word(&["and", "&", "&&", "", ""])),
                true => Join::Or(generator.word(&["or", "|", "||"])),
            }
        };
        Expr::List((0..operands).map(|_| (join(self), self.expr(depth - 1))).collect())
    }

    fn atom(&mut self) -> Atom {
        match self.dice.roll(100) {
            0..44 => self.host(),
            44..74 => self.port(),
            74..79 => {
                let ends = [self.some_port(), self.some_port()];
                let (first, last) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
                Atom::Range { side: self.side(), first, last }
            }
            79..84 => {
                let (equal, operator) = self.equality();
                let (index, name) = *self.dice.one_of(&[(1, "lo"), (1, "1")]);
                Atom::Device { index, equal, words: words(&["dev", operator, name]) }
            }
            84..90 if self.marks => {
                let (equal, operator) = self.equality();
                let value = *self.dice.one_of(&[0_u32, 1, 0x5eed, 0x8000_0000, 7]);
                let mask = *self.dice.one_of(&[u32::MAX, u32::MAX, 1, 0xff, 0x8000_0000]);
                let number = if self.dice.chance(50) { format!("{value}") } else { format!("{value:#x}") };
                let text = if mask == u32::MAX { number } else { format!("{number}/{mask:#x}") };
                Atom::Mark { value, mask, equal, words: words(&["fwmark", operator, &text]) }
            }
            90..94 if self.cgroup.is_some() => {
                let path = self.cgroup.clone().unwrap_or_default();
                let (equal, operator) = self.equality();
                Atom::Cgroup { equal, words: words(&["cgroup", operator, &path]) }
            }
            _ => Atom::Autobound,
        }
    }

    fn host(&mut self) -> Atom {
        let side = self.side();
        let family = match self.dice.roll(100) {
            0..3 => Some(Family::Inet),
            3..6 => Some(Family::Inet6),
            _ => None,
        };
        // ss refuses addresses of another family than the options': a few of those are enough.
        let wanted = family.or(self.family.filter(|_| !self.dice.chance(8)));
        let address = self.some_address();
        let fits = wanted.is_none_or(|family| address.is_ipv4() == (family == Family::Inet));
        let address = (fits && !self.dice.chance(15)).then_some(address);
        let prefix = address.map(|address| {
            let lengths: &[u8] = match address {
                IpAddr::V4(_) => &[32, 32, 32, 31, 30, 24, 16, 8, 1, 0],
                IpAddr::V6(_) => &[128, 128, 128, 127, 120, 104, 96, 80, 64, 0],
            };
            (address, *self.dice.one_of(lengths))
        });
        let port = self.dice.chance(40).then(|| self.some_port());
        let mut value = match family {
            None => String::new(),
            Some(family) => format!("{}:", family.name()),
        };
        value += &match prefix {
            None => "*".to_owned(),
            Some((IpAddr::V4(address), 32)) => address.to_string(),
            Some((IpAddr::V4(address), bits)) => format!("{address}/{bits}"),
            Some((IpAddr::V6(address), 128)) => format!("[{address}]"),
            Some((IpAddr::V6(address), bits)) => format!("[{address}/{bits}]"),
        };
        match port {
            Some(port) => value += &format!(":{port}"),
            None if self.dice.chance(20) => value += ":*",
            None => {}
        }
        Atom::Host { side, family, prefix, port, value, equals: self.word(&["", "", "=", "==", "eq"]) }
    }

    fn port(&mut self) -> Atom {
        const OPERATORS: &[(Comparison, &[&str])] = &[
            (Comparison::Equal, &["", "=", "==", "eq"]),
            (Comparison::NotEqual, &["!=", "ne", "neq"]),
            (Comparison::Less, &["<", "lt"]),
            (Comparison::LessOrEqual, &["<=", "le", "leq"]),
            (Comparison::Greater, &[">", "gt"]),
            (Comparison::GreaterOrEqual, &[">=", "ge", "geq"]),
        ];
        let (comparison, spellings) = self.dice.one_of(OPERATORS);
        Atom::Port {
            side: self.side(),
            comparison: *comparison,
            port: self.some_port(),
            operator: self.word(spellings),
            colon: self.dice.chance(60),
        }
    }

    fn side(&mut self) -> Side {
        *self.dice.one_of(&[Side::Local, Side::Remote])
    }

    fn equality(&mut self) -> (bool, &'static str) {
        *self.dice.one_of(&[(true, ""), (true, "="), (true, "eq"), (false, "!="), (false, "ne")])
    }

    fn some_address(&mut self) -> IpAddr {
        if self.dice.chance(12) {
            return *self.dice.one_of(&[
                Ipv4Addr::new(10, 1, 2, 3).into(),
                Ipv4Addr::UNSPECIFIED.into(),
                Ipv6Addr::UNSPECIFIED.into(),
                Ipv4Addr::new(127, 0, 0, 9).to_ipv6_mapped().into(),
            ]);
        }
        let animal = self.dice.one_of(&self.world.animals);
        if self.dice.chance(50) { animal.local.ip() } else { animal.remote.ip() }
    }

    fn word(&mut self, from: &[&'static str]) -> &'static str {
        let word: &&str = self.dice.one_of(from);
        word
    }

    fn some_port(&mut self) -> u16 {
        match self.dice.roll(100) {
            0..20 => *self.dice.one_of(&[0, 1, 1023, 1024, 32_768, 60_999, 61_000, 65_535]),
            20..45 => *self.dice.one_of(&CHOSEN_PORTS),
            _ => {
                let animal = self.dice.one_of(&self.world.animals);
                let port = if self.dice.chance(50) { animal.local.port() } else { animal.remote.port() };
                match self.dice.roll(10) {
                    0 => port.saturating_sub(1),
                    1 => port.saturating_add(1),
                    _ => port,
                }
            }
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().filter(|word| !word.is_empty()).map(|word| (*word).to_owned()).collect()
}
