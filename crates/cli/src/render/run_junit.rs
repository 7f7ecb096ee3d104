//! The rules of a run as JUnit XML: a test case each, as CI servers read it.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use sockeye_gate::{Account, Finding, Outcome, Verdict};

use super::run_table::sentence;
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
    let name = Harmless(&command.join(" ")).to_string();
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
    case.push_attribute(("name", finding.rule.as_str()));
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
