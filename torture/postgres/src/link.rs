//! A network between an application and its server that is a network: two namespaces of Linux with a link between, on which
//! packets are lost, slowed down and answered with resets. Needs root, `unshare` and `nsenter` of util-linux, `ip` and `tc` of
//! iproute2, and `iptables`.

use std::io::{BufRead, BufReader, Write, stderr};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Addresses for documents (RFC 5737), which lead nowhere else.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const APPLICATION: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The link's name on both sides.
const NAME: &str = "link0";

/// What is tried before anything relies on it, in a namespace that goes away with the shell.
const TRIAL: &str = "
set -e
ip link set lo up
ip link add link0 type veth peer name link1
tc qdisc replace dev link0 root tbf rate 1mbit burst 4kb latency 100ms
iptables -w -A INPUT -p tcp -m statistic --mode random --probability 0.1 -j DROP
iptables -w -A INPUT -p tcp -j REJECT --reject-with tcp-reset
nsenter --net=/proc/$$/ns/net true
";

/// Whether this machine lets a process make such networks. If not, the standard error says so once. It is no failure, whatever
/// `CLOAKROOM_POSTGRES` says: a container may forbid it.
#[must_use]
pub fn are_namespaces_available() -> bool {
    static WHY_NOT: OnceLock<Option<String>> = OnceLock::new();
    let why_not = WHY_NOT.get_or_init(|| {
        let why_not = trial()?;
        let line = format!(
            "\nSKIPPED: no networks can be made here, so tests of packets test nothing: {why_not}\n"
        );
        // Not `eprintln!`, which the test runner keeps back of a test that passes.
        drop(stderr().write_all(line.as_bytes()));
        Some(why_not)
    });
    why_not.is_none()
}

fn trial() -> Option<String> {
    let output = own_network("/bin/sh").args(["-c", TRIAL]).output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Runs a program in a network of its own, which has nothing but a loopback that is down.
#[must_use]
pub fn own_network(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--"]).arg(program.as_ref());
    command
}

/// What becomes of the packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disturbance {
    /// Of both directions, with this probability each is lost.
    Loss(f64),
    /// What the application sends is lost.
    RequestsLost,
    /// What the server sends is lost.
    AnswersLost,
    /// What the application sends is answered with a reset.
    RequestsReset,
    /// What the server sends is answered with a reset.
    AnswersReset,
    /// So many kilobits a second pass in each direction. More waits for up to 400 ms, and is lost after that.
    Slow(u32),
    /// There is no link.
    Down,
}

/// The link between this process's network and one for applications. Both end with their processes.
#[derive(Debug)]
pub struct Link {
    /// Keeps the other network there.
    anchor: Child,
}

impl Link {
    /// Makes the other network.
    ///
    /// # Panics
    ///
    /// If this process does not run in a network of its own ([`own_network`]).
    #[must_use]
    pub fn make() -> Self {
        run(Command::new("ip").args(["link", "set", "lo", "up"]));
        let mut anchor = own_network("/bin/sh")
            .args(["-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Then it is in its network.
        let mut said = String::new();
        let mut out = BufReader::new(anchor.stdout.take().unwrap());
        out.read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        let process = anchor.id().to_string();
        run(Command::new("ip")
            .args(["link", "add", NAME, "type", "veth"])
            .args(["peer", "name", NAME, "netns", &process]));
        let link = Self { anchor };
        for (address, ours) in [(SERVER, true), (APPLICATION, false)] {
            let command = || link.program("ip", ours);
            run(command().args(["address", "add", &format!("{address}/24"), "dev", NAME]));
            run(command().args(["link", "set", NAME, "up"]));
        }
        link
    }

    /// This side's address: that of the server for applications on the other side.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        SERVER.into()
    }

    /// Runs a program on the other side.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.anchor.id()));
        command.arg("--").arg(program.as_ref());
        command
    }

    fn program(&self, program: &str, ours: bool) -> Command {
        if ours {
            Command::new(program)
        } else {
            self.command(program)
        }
    }

    /// Disturbs what passes, until [`clear`](Self::clear).
    pub fn disturb(&self, disturbance: Disturbance) {
        let drop = ["-j", "DROP"];
        let reset = ["-j", "REJECT", "--reject-with", "tcp-reset"];
        match disturbance {
            Disturbance::Loss(probability) => {
                let probability = probability.to_string();
                let some = ["-m", "statistic", "--mode", "random", "--probability"];
                let rule = [&some[..], &[&probability], &drop].concat();
                self.refuse(true, &rule);
                self.refuse(false, &rule);
            }
            Disturbance::RequestsLost => self.refuse(true, &drop),
            Disturbance::AnswersLost => self.refuse(false, &drop),
            Disturbance::RequestsReset => self.refuse(true, &reset),
            Disturbance::AnswersReset => self.refuse(false, &reset),
            Disturbance::Slow(kilobits) => {
                for ours in [true, false] {
                    run(self
                        .program("tc", ours)
                        .args(["qdisc", "replace", "dev", NAME, "root", "tbf"])
                        .args(["rate", &format!("{kilobits}kbit")])
                        .args(["burst", "4kb", "latency", "400ms"]));
                }
            }
            Disturbance::Down => {
                run(Command::new("ip").args(["link", "set", NAME, "down"]));
            }
        }
    }

    /// A rule for what comes in on one side.
    fn refuse(&self, ours: bool, rule: &[&str]) {
        run(self
            .program("iptables", ours)
            .args(["-w", "-A", "INPUT", "-i", NAME, "-p", "tcp"])
            .args(rule));
    }

    /// Everything passes again.
    pub fn clear(&self) {
        for ours in [true, false] {
            run(self.program("iptables", ours).args(["-w", "-F", "INPUT"]));
            // There may be none.
            let mut queue = self.program("tc", ours);
            queue.args(["qdisc", "del", "dev", NAME, "root"]);
            let _ = queue.stderr(Stdio::null()).status().unwrap();
        }
        run(Command::new("ip").args(["link", "set", NAME, "up"]));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.anchor.kill());
        drop(self.anchor.wait());
    }
}

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
