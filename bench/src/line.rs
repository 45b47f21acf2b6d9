//! A long line between two hosts, for kernels that have no netem: 1 Gbit/s, 50 ms there and back.

use std::{
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    process::{Child, Stdio},
};

use lab::Lan;

/// Bits a second, in millions.
const MEGABITS: u32 = 1000;
/// One way.
const MILLISECONDS: u32 = 25;
/// As on a network of a site; smaller packets would cost the line's own process a whole processor.
const MTU: u32 = 9000;

/// It lasts as long as the value.
#[derive(Debug)]
pub(crate) struct Line(Child);

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Line {
    /// The address of one of its ends.
    pub(crate) fn end(host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, host + 1)
    }

    /// Joins the first two hosts.
    pub(crate) fn new(lan: &Lan) -> Result<Self, String> {
        let (left, right) = (lan.host(0), lan.host(1));
        // A device belongs to the namespace in which it was opened.
        let script = "exec 3<>/dev/net/tun; \
             exec ip netns exec \"$1\" sh -c 'exec 4<>/dev/net/tun; exec perl -e \"$0\" \"$@\"' \"$0\" \"$2\" \"$3\"";
        let mut line = left
            .command("sh")
            .args(["-c", script, include_str!("line.pl"), right.namespace()])
            .args([MEGABITS.to_string(), MILLISECONDS.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("perl: {e}"))?;
        let mut said = String::new();
        if let Some(out) = line.stdout.take() {
            BufReader::new(out).read_line(&mut said).map_err(|e| format!("the line: {e}"))?;
        }
        let line = Self(line);
        if said != "ready\n" {
            return Err("no line can be made here (perl and /dev/net/tun are needed)".to_owned());
        }
        for (number, host) in [(0, left), (1, right)] {
            let address = Self::end(number);
            host.sh(&format!(
                "ip addr add {address}/24 dev line && ip link set line mtu {MTU} txqueuelen 10000 up"
            ));
        }
        Ok(line)
    }
}
