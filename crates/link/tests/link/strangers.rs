//! Strangers cost little time and little room, and shut nobody else out.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use link::{Door, Limits, LinkError, Listener};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    time::{Instant, interval, timeout},
};

use crate::common::{LONG, accept, dial, endpoint, key, listener};

/// No limit but the one that a test is about.
fn generous() -> Limits {
    let many = NonZeroU32::new(10_000).expect("not zero");
    Limits { handshake_timeout: LONG, burst: many, per_second: many, ..Limits::default() }
}

/// Waits until the other end hangs up; what it said before.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is a way of hanging up, too.
    let _ = timeout(LONG, stream.read_to_end(&mut said)).await.expect("it hangs up in time");
    said
}

#[tokio::test]
async fn other_languages_are_hung_up_on() {
    let (mut listener, addr) = listener(generous()).await;
    let huge_record = [&[0x16, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat();
    let openings: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\nHost: kin\r\n\r\n", b"SSH-2.0-x\r\n", &[0xff; 100_000], &huge_record];
    for opening in openings {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        // It may hang up while we still talk.
        let _ = stream.write_all(opening).await;
        until_closed(&mut stream).await;
    }
    dial(1, addr).await.unwrap();
    assert_eq!(accept(&mut listener).await.peer(), key(1).id());
}

#[tokio::test]
async fn whoever_dials_something_else_is_told() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = other.local_addr().unwrap();
    let greet = async {
        let (mut stream, _) = other.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await.unwrap();
        until_closed(&mut stream).await;
        let (stream, _) = other.accept().await.unwrap();
        drop(stream);
    };
    let dialled = async {
        assert!(matches!(dial(1, addr).await, Err(LinkError::NotKinfold(_))));
        assert!(matches!(dial(1, addr).await, Err(LinkError::Cut)));
    };
    tokio::join!(greet, dialled);
}

#[tokio::test]
async fn dsync_03_a_handshake_has_a_deadline_however_it_trickles() {
    let limits = Limits { handshake_timeout: Duration::from_millis(300), ..generous() };
    let (_listener, addr) = listener(limits.clone()).await;
    let begin = Instant::now();
    let silent = async {
        until_closed(&mut TcpStream::connect(addr).await.unwrap()).await;
    };
    let slow = async {
        let (mut read, mut write) = TcpStream::connect(addr).await.unwrap().into_split();
        // The head of a record of 1 KiB, and then a byte now and then.
        write.write_all(&[0x16, 3, 1, 4, 0, 1, 0, 3, 0xfc]).await.unwrap();
        let mut pace = interval(Duration::from_millis(20));
        let trickle = async {
            loop {
                pace.tick().await;
                if write.write_all(&[3]).await.is_err() {
                    break;
                }
            }
        };
        let mut said = Vec::new();
        let closed = timeout(LONG, read.read_to_end(&mut said));
        tokio::select! {
            closed = closed => drop(closed.expect("it hangs up in time")),
            () = trickle => {}
        }
    };
    tokio::join!(silent, slow);
    let took = begin.elapsed();
    assert!(took >= limits.handshake_timeout, "{took:?} is too early");
    assert!(took < Duration::from_secs(10), "{took:?} is too late");
}

#[tokio::test]
async fn a_dialled_end_that_keeps_silent_has_a_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    let limits = Limits { handshake_timeout: Duration::from_millis(300), ..generous() };
    let endpoint = endpoint(1, limits);
    let refused = endpoint.dial(addr).await.map(|_| ());
    assert!(matches!(refused, Err(LinkError::Timeout { seconds: 1 })), "{refused:?}");
}

/// A connection from another address of this machine.
#[cfg(target_os = "linux")]
async fn from(source: &str, addr: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(source.parse().expect("an address")).expect("a port of that address");
    socket.connect(addr).await.expect("a connection")
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn handshakes_at_once_are_limited_for_each_source() {
    let limits = Limits { handshakes_per_source: 2, ..generous() };
    let (mut listener, addr) = listener(limits).await;
    let _first = from("127.0.0.2:0", addr).await;
    let _second = from("127.0.0.2:0", addr).await;
    assert!(until_closed(&mut from("127.0.0.2:0", addr).await).await.is_empty());
    // While they are held, another source gets in.
    dial(1, addr).await.unwrap();
    assert_eq!(accept(&mut listener).await.peer(), key(1).id());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn handshakes_at_once_are_limited_in_total() {
    let limits = Limits { handshakes: 2, ..generous() };
    let (mut listener, addr) = listener(limits).await;
    let first = from("127.0.0.2:0", addr).await;
    let _second = from("127.0.0.3:0", addr).await;
    assert!(matches!(dial(1, addr).await, Err(LinkError::Cut)));
    drop(first);
    let let_in = async {
        while dial(1, addr).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, let_in).await.expect("room after one left");
    assert_eq!(accept(&mut listener).await.peer(), key(1).id());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_a_second_are_limited_for_each_source() {
    let limits = Limits { burst: NonZeroU32::MIN, per_second: NonZeroU32::MIN, ..generous() };
    let (mut listener, addr) = listener(limits).await;
    let _first = from("127.0.0.2:0", addr).await;
    assert!(until_closed(&mut from("127.0.0.2:0", addr).await).await.is_empty());
    dial(1, addr).await.unwrap();
    assert_eq!(accept(&mut listener).await.peer(), key(1).id());
}

#[tokio::test]
async fn a_dropped_listener_breaks_off_what_runs() {
    let (listener, addr) = listener(generous()).await;
    let mut held = TcpStream::connect(addr).await.unwrap();
    held.write_all(&[0x16]).await.unwrap();
    drop(listener);
    until_closed(&mut held).await;
}

#[tokio::test]
async fn a_link_waits_for_whoever_accepts_it() {
    let (mut listener, addr) = listener(generous()).await;
    // More than the queue holds: the rest wait in their handshake's place.
    let mut dialled = Vec::new();
    for _ in 0..20 {
        dialled.push(dial(1, addr).await.unwrap());
    }
    for _ in 0..20 {
        accept(&mut listener).await;
    }
}

#[tokio::test]
async fn who_speaks_something_else_is_handed_over_and_nothing_of_it_is_read() {
    let (visitors, mut came) = mpsc::channel(1);
    let door = Door { visitors: Some(visitors), ..Door::default() };
    let mut listener = Listener::open(endpoint(2, generous()), 0, door).await.unwrap();
    let addr = ([127, 0, 0, 1], listener.port()).into();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"HELLO 1\n").await.unwrap();
    let mut visitor = timeout(LONG, came.recv()).await.unwrap().unwrap();
    assert_eq!((visitor.first, visitor.addr), (b'H', stream.local_addr().unwrap()));
    let mut said = [0; 8];
    visitor.stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HELLO 1\n");
    // One that says nothing keeps nobody out.
    let _silent = TcpStream::connect(addr).await.unwrap();
    dial(1, addr).await.unwrap();
    assert_eq!(accept(&mut listener).await.peer(), key(1).id());
}

#[tokio::test]
async fn from_elsewhere_than_said_nobody_comes_in() {
    let door = Door { from: Some(Arc::new(|ip| ip.is_multicast())), visitors: None };
    let listener = Listener::open(endpoint(2, generous()), 0, door).await.unwrap();
    let addr = ([127, 0, 0, 1], listener.port()).into();
    assert!(dial(1, addr).await.is_err());
    let mut stream = TcpStream::connect(addr).await.unwrap();
    assert!(until_closed(&mut stream).await.is_empty());
}
