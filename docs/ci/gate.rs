//! Copy to `tests/gate.rs`: the client's test suite may open so many connections, and leave none behind.
//!
//! Where sockeye is not in the PATH, the variable SOCKEYE says where it is.

use std::process::Command;

/// Runs another test of this package under the gate.
fn run_within(rules: &[&str], test: &str) {
    let sockeye = std::env::var_os("SOCKEYE").unwrap_or_else(|| "sockeye".into());
    let this_binary = std::env::current_exe().expect("a test knows its own path");
    let output = Command::new(sockeye)
        .args(["run", "--no-config", "--isolate"])
        .args(rules)
        .arg("--")
        .arg(this_binary)
        .args(["--exact", "--ignored", test])
        .output()
        .expect("sockeye can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn requests_share_a_connection() {
    run_within(&["--max-opens", "1", "--max-leaked", "0"], "twenty_requests");
}

/// What is counted: run by the test above, in a network namespace of its own.
#[test]
#[ignore = "run under the gate by requests_share_a_connection"]
fn twenty_requests() {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = [0; 4];
        while connection.read_exact(&mut request).is_ok() {
            connection.write_all(b"pong").unwrap();
        }
    });
    let mut client = TcpStream::connect(to).unwrap();
    for _ in 0..20 {
        client.write_all(b"ping").unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
    }
    drop(client);
    server.join().unwrap();
}
