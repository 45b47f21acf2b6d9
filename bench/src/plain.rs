//! Plain TCP over the long line, as a tool without any protocol would use it: what the line itself carries.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use clap::Subcommand;
use lab::{Lan, LongLine, eventually};

use crate::{line::Span, measure::Measure};

const PORT: u16 = 9100;

/// What the benchmark starts itself as on a host.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Plain {
    /// Sends as many bytes as it is asked for to whoever connects.
    #[command(hide = true)]
    PlainServe,
    /// Fetches bytes over some connections at once; says how long connecting took, in microseconds.
    #[command(hide = true)]
    PlainFetch { from: Ipv4Addr, connections: u32, bytes: u64 },
}

/// Killed on drop.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fetches `bytes` over the line; says the round trip, too.
pub(crate) fn run(lan: &Lan, connections: u32, bytes: u64) -> Result<(Measure, Duration), String> {
    let line = LongLine::between(lan)?;
    let (sender, receiver) = (lan.host(0), lan.host(1));
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let server = sender.command(&me).arg("plain-serve").stdin(Stdio::null()).spawn();
    let _server = Server(server.map_err(|e| format!("plain TCP: {e}"))?);
    let listening = format!(":{PORT:04X} ");
    eventually("the server listens", || sender.sh("cat /proc/net/tcp").contains(&listening));
    let span = Span::from_now(&line);
    let fetched = receiver
        .command(&me)
        .arg("plain-fetch")
        .args([LongLine::address().to_string(), connections.to_string(), bytes.to_string()])
        .output()
        .map_err(|e| format!("plain TCP: {e}"))?;
    if !fetched.status.success() {
        return Err(format!("plain TCP: {}", String::from_utf8_lossy(&fetched.stderr)));
    }
    let said = String::from_utf8_lossy(&fetched.stdout);
    let micros = said.trim().parse().map_err(|_| format!("plain TCP said {said:?}"))?;
    Ok((span.measure(&line, Instant::now())?, Duration::from_micros(micros)))
}

/// The part on a host.
pub(crate) fn be(plain: &Plain) -> io::Result<()> {
    match plain {
        Plain::PlainServe => serve(),
        Plain::PlainFetch { from, connections, bytes } => {
            let part = bytes / u64::from((*connections).max(1));
            let connect = || TcpStream::connect(SocketAddrV4::new(*from, PORT));
            let start = Instant::now();
            let mut streams = vec![connect()?];
            println!("{}", start.elapsed().as_micros());
            for _ in 1..*connections {
                streams.push(connect()?);
            }
            let fetches: Vec<_> =
                streams.into_iter().map(|it| thread::spawn(move || fetch(it, part))).collect();
            for fetch in fetches {
                fetch.join().map_err(|_| io::Error::other("a thread died"))??;
            }
            Ok(())
        }
    }
}

fn serve() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    loop {
        let (mut stream, _) = listener.accept()?;
        thread::spawn(move || {
            let mut wanted = [0; 8];
            stream.read_exact(&mut wanted)?;
            let zeros = io::repeat(0).take(u64::from_be_bytes(wanted));
            io::copy(&mut io::BufReader::with_capacity(1 << 20, zeros), &mut stream)
        });
    }
}

fn fetch(mut stream: TcpStream, bytes: u64) -> io::Result<()> {
    stream.write_all(&bytes.to_be_bytes())?;
    let mut buffer = vec![0; 1 << 20];
    let mut got = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 if got == bytes => return Ok(()),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => got += read as u64,
        }
    }
}
