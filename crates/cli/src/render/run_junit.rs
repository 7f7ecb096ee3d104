//! The rules of a run as JUnit XML: a test case each, as CI servers read it.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use sockeye_gate::{Account, Finding, Outcome, Verdict};

use super::run_table::{name, sentence};
use crate::terminal::Harmless;

/// The whole file.
pub(crate) fn render(account: &Account, verdict: &Verdict, command: &[String]) -> anyhow::Result<String> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let failures = verdict.broken().count().to_string();
    let tests = verdict.findings.len().to_string();
    let skipped =
        verdict.findings.iter().filter(|finding| finding.outcome == Outcome::NotKnown).count().to_string();
    let seconds = format!("{:.3}", account.duration_ms as f64 / 1e3);
    let name = Harmless(&name(command)).to_string();
    let mut suites = BytesStart::new("testsuites");
    suites.push_attribute(("name", "sockeye run"));
    xml.write_event(Event::Start(suites))?;
    let mut suite = BytesStart::new("testsuite");
    for attribute in [
        ("name", name.as_str()),
        ("tests", &tests),
        ("failures", &failures),
        ("errors", "0"),
        ("skipped", &skipped),
        ("time", &seconds),
    ] {
        suite.push_attribute(attribute);
    }
    xml.write_event(Event::Start(suite))?;
    for finding in &verdict.findings {
        case(&mut xml, finding)?;
    }
    xml.write_event(Event::End(BytesEnd::new("testsuite")))?;
    xml.write_event(Event::End(BytesEnd::new("testsuites")))?;
    let mut text = String::from_utf8(xml.into_inner())?;
    text.push('\n');
    Ok(text)
}

fn case(xml: &mut Writer<Vec<u8>>, finding: &Finding) -> anyhow::Result<()> {
    let mut case = BytesStart::new("testcase");
    case.push_attribute(("classname", "sockeye"));
    case.push_attribute(("name", Harmless(&finding.rule).to_string().as_str()));
    let said = Harmless(&sentence(finding)).to_string();
    let (tag, body) = match finding.outcome {
        Outcome::Broken => ("failure", evidence(finding)),
        Outcome::NotKnown => ("skipped", String::new()),
        Outcome::Doubtful => ("system-out", format!("doubtful: {said}")),
        Outcome::Better | Outcome::Kept => ("system-out", said.clone()),
    };
    let mut inner = BytesStart::new(tag);
    if tag != "system-out" {
        inner.push_attribute(("message", said.as_str()));
    }
    xml.write_event(Event::Start(case))?;
    xml.write_event(Event::Start(inner))?;
    xml.write_event(Event::Text(BytesText::new(&body)))?;
    xml.write_event(Event::End(BytesEnd::new(tag)))?;
    xml.write_event(Event::End(BytesEnd::new("testcase")))?;
    Ok(())
}

fn evidence(finding: &Finding) -> String {
    let lines: Vec<String> = finding.evidence.iter().map(|line| Harmless(line).to_string()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::run_markdown::{self, annotations};
    use crate::render::{run_json, run_table};
    use crate::run::child::Exit;
    use crate::terminal::Palette;
    use proptest::prelude::*;
    use quick_xml::Reader;
    use sockeye_gate::{Leak, LeakKind, Measure, Unit};

    /// A verdict in which every text comes from outside.
    fn hostile(text: &str) -> (Account, Verdict) {
        let finding = Finding {
            rule: text.to_owned(),
            text: "connections opened",
            unit: Unit::Count,
            value: Some(Measure::exactly(3.0)),
            allowed: 2.0,
            is_minimum: false,
            baseline: None,
            outcome: Outcome::Broken,
            evidence: vec![text.to_owned(), "plain".to_owned()],
        };
        let leak =
            Leak { kind: LeakKind::Open, remote: None, owner: text.to_owned(), count: 1, is_certain: true };
        let account = Account { leaks: vec![leak], notes: vec![text.to_owned()], ..Account::default() };
        (account, Verdict { findings: vec![finding] })
    }

    #[test]
    fn a_command_that_failed_did_not_pass() {
        let account = Account::default();
        let heading = |verdict: &Verdict, exit| {
            let text = run_markdown::render(&account, verdict, &["test".to_owned()], exit);
            text.lines().next().unwrap_or_default().to_owned()
        };
        let kept = Verdict::default();
        assert_eq!(heading(&kept, Exit::Code(0)), "### Connections of test: ✅ passed");
        for exit in [Exit::Code(7), Exit::Signal(15), Exit::TimedOut] {
            assert!(heading(&kept, exit).ends_with("of a command that failed"));
        }
        assert!(heading(&hostile("x").1, Exit::Code(0)).ends_with("❌ failed"));
    }

    #[test]
    fn a_command_line_without_end_is_no_name() {
        let (account, verdict) = hostile("x");
        let command = ["ä".repeat(50_000)];
        let xml = render(&account, &verdict, &command).unwrap();
        let markdown = run_markdown::render(&account, &verdict, &command, Exit::Code(0));
        for shown in [xml, markdown] {
            assert!(shown.contains("äää…") && shown.len() < 10_000, "{} bytes", shown.len());
        }
    }

    proptest! {
        /// Names of processes and commands are other people's bytes.
        #[test]
        fn no_text_breaks_a_format(text in "(\\PC|[<>&'\"|`%:,\\]\\[!#*_-]|\\x1b|\n|\r|\u{0}|\u{202e}){0,30}") {
            let (account, verdict) = hostile(&text);
            let command = [text.clone()];

            let xml = render(&account, &verdict, &command).unwrap();
            let mut reader = Reader::from_str(&xml);
            let mut cases = 0;
            loop {
                match reader.read_event().unwrap() {
                    Event::Start(tag) => {
                        cases += u32::from(tag.name().as_ref() == "testcase");
                        tag.attributes().for_each(|attribute| drop(attribute.unwrap()));
                    }
                    Event::Eof => break,
                    _ => {}
                }
            }
            prop_assert_eq!(cases, 1);

            let markdown = run_markdown::render(&account, &verdict, &command, Exit::Code(0));
            let row = markdown.lines().find(|line| line.contains('❌') && line.starts_with('|')).unwrap();
            prop_assert_eq!(row.matches('|').count(), 6, "{}", row);
            prop_assert!(!markdown.contains("<") && !markdown.contains('`'));

            let annotations = annotations(&verdict);
            prop_assert_eq!(annotations.lines().count(), 1, "{:?}", annotations);
            prop_assert_eq!(annotations.split("::").next(), Some(""));

            let table = run_table::render(&account, &verdict, Exit::Code(0), Palette::PLAIN, 80);
            let json = run_json::render(&account, &verdict, &command, Exit::Code(0)).unwrap();
            for shown in [&xml, &markdown, &annotations, &table, &json] {
                prop_assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", shown);
            }
            let back: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back["command"][0].as_str(), Some(text.as_str()));
        }
    }
}
