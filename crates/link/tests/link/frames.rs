//! Frames over a link: there and back, large and small, whole and cut.

use bytes::Bytes;
use link::{Limits, LinkError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use wire::frame::{Channel, MAX_FRAME, MAX_STRANGER_FRAME};

use crate::common::{accept, dial, listener, pair};

#[tokio::test]
async fn frames_arrive_as_they_were_sent_both_ways() {
    let (one, other) = pair().await;
    let (mut read_one, mut write_one) = one.split();
    let (mut read_other, mut write_other) = other.split();
    read_one.set_limit(MAX_FRAME);
    read_other.set_limit(MAX_FRAME);
    let sizes = [0, 1, 5, 16 * 1024, 1 << 20, 32 * 1024, 7, MAX_FRAME, 100_000, 31 * 1024, 3];
    let payload = |size: usize| {
        (0..size).map(|i| ((i * 31 + size) % 251).to_le_bytes()[0]).collect::<Vec<u8>>()
    };
    let there = async {
        for size in sizes {
            write_one.send(Channel::Folder(0), &payload(size)).await.unwrap();
        }
        write_one.close().await;
    };
    let back = async {
        for size in sizes {
            write_other.send(Channel::Session, &payload(size)).await.unwrap();
        }
        write_other.close().await;
    };
    let hear_there = async {
        for size in sizes {
            let (channel, frame) = read_other.next().await.unwrap().expect("a frame");
            assert_eq!((channel, frame.len()), (Channel::Folder(0), size));
            assert!(frame == payload(size), "the frame of {size} bytes was changed");
        }
        assert!(read_other.next().await.unwrap().is_none());
    };
    let hear_back = async {
        for size in sizes {
            let (channel, frame) = read_one.next().await.unwrap().expect("a frame");
            assert_eq!((channel, frame.len()), (Channel::Session, size));
            assert!(frame == payload(size), "the frame of {size} bytes was changed");
        }
        assert!(read_one.next().await.unwrap().is_none());
    };
    tokio::join!(there, back, hear_there, hear_back);
}

#[tokio::test]
async fn a_payload_in_parts_arrives_as_one_and_in_its_place() {
    let (one, other) = pair().await;
    let (_read_one, mut write_one) = one.split();
    let (mut read_other, _write_other) = other.split();
    read_other.set_limit(MAX_FRAME);
    // None, empty ones, few bytes, and large ones between small ones.
    let frames = [
        vec![],
        vec![0, 0],
        vec![3, 0, 5],
        vec![9, 300_000, 1, 0, 700_000, 4],
        vec![40_000],
        vec![600_000, 600_000],
        vec![2],
    ];
    let parts = |lens: &[usize]| -> Vec<Bytes> {
        (1_u8..).zip(lens).map(|(fill, len)| vec![fill; *len].into()).collect()
    };
    let send = async {
        for lens in &frames {
            write_one.send_parts(Channel::Folder(0), &parts(lens)).await.unwrap();
        }
        write_one.close().await;
    };
    let hear = async {
        for lens in &frames {
            let (_, frame) = read_other.next().await.unwrap().expect("a frame");
            assert!(frame == parts(lens).concat(), "the frame of {lens:?} was changed");
        }
        assert!(read_other.next().await.unwrap().is_none());
    };
    tokio::join!(send, hear);
}

#[tokio::test]
async fn who_stops_listening_within_a_large_frame_and_goes_on_gets_it_whole() {
    let (one, other) = pair().await;
    let (_read_one, mut write_one) = one.split();
    let (mut read_other, _write_other) = other.split();
    read_other.set_limit(MAX_FRAME);
    let frame: Vec<u8> = (0..251_u8).cycle().take(MAX_FRAME).collect();
    let send = async {
        write_one.send(Channel::Folder(0), &frame).await.unwrap();
        write_one.flush().await.unwrap();
    };
    let hear = async {
        let mut dropped = 0;
        loop {
            // Looked at once, and dropped if the frame is not whole.
            let next = std::pin::pin!(read_other.next());
            match once(next).await {
                Some(heard) => break (heard.unwrap().expect("a frame").1, dropped),
                None => dropped += 1,
            }
            tokio::task::yield_now().await;
        }
    };
    let ((), (heard, dropped)) = tokio::join!(send, hear);
    assert!(heard == frame, "the frame was changed");
    assert!(dropped > 1, "it came at once");
}

/// What a future gives when it is polled once.
async fn once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(ready) => std::task::Poll::Ready(Some(ready)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn small_frames_wait_for_the_flush_and_then_come_at_once() {
    let (one, other) = pair().await;
    let (_read_one, mut write_one) = one.split();
    let (mut read_other, _write_other) = other.split();
    for number in 0..1000_u32 {
        write_one.send(Channel::Session, &number.to_be_bytes()).await.unwrap();
    }
    write_one.flush().await.unwrap();
    for number in 0..1000_u32 {
        let (_, frame) = read_other.next().await.unwrap().expect("a frame");
        assert_eq!(&frame[..], number.to_be_bytes());
    }
}

#[tokio::test]
async fn a_goodbye_is_told_apart_from_a_cut() {
    let (one, other) = pair().await;
    let (_read_one, write_one) = one.split();
    let (mut read_other, mut write_other) = other.split();
    write_one.close().await;
    assert!(read_other.next().await.unwrap().is_none(), "a goodbye");
    // The other direction is still open.
    write_other.send(Channel::Session, b"late").await.unwrap();
    write_other.flush().await.unwrap();

    let (one, other) = pair().await;
    let (mut read_other, _write_other) = other.split();
    let (read_one, mut write_one) = one.split();
    write_one.send(Channel::Session, b"whole").await.unwrap();
    write_one.flush().await.unwrap();
    assert_eq!(&read_other.next().await.unwrap().expect("a frame").1[..], b"whole");
    drop((read_one, write_one));
    assert!(matches!(read_other.next().await, Err(LinkError::Cut)), "a cut");
}

#[tokio::test]
async fn dsync_03_a_strangers_length_is_refused_before_anything_is_allocated() {
    let (one, other) = pair().await;
    let (_read_one, mut write_one) = one.split();
    let (mut read_other, _write_other) = other.split();
    write_one.send(Channel::Session, &vec![1; MAX_STRANGER_FRAME]).await.unwrap();
    write_one.send(Channel::Session, &vec![1; MAX_STRANGER_FRAME + 1]).await.unwrap();
    write_one.flush().await.unwrap();
    assert_eq!(read_other.next().await.unwrap().expect("in bounds").1.len(), MAX_STRANGER_FRAME);
    match read_other.next().await {
        Err(LinkError::TooLarge { len: 16_385, limit: 16_384 }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_frame_over_the_greatest_limit_is_not_sent() {
    let (one, _other) = pair().await;
    let (_, mut writer) = one.split();
    let refused = writer.send(Channel::Folder(0), &vec![0; MAX_FRAME + 1]).await;
    assert!(matches!(refused, Err(LinkError::TooLarge { .. })));
    writer.send(Channel::Folder(0), b"the link still stands").await.unwrap();
}

#[tokio::test]
async fn a_large_frame_that_was_broken_off_closes_the_link() {
    let (one, other) = pair().await;
    let (_read_one, mut write_one) = one.split();
    // Nobody reads: the frames fill every buffer, and then the call is dropped.
    let frame = vec![0; MAX_FRAME];
    loop {
        let sent = write_one.send(Channel::Folder(0), &frame);
        if tokio::time::timeout(std::time::Duration::from_millis(200), sent).await.is_err() {
            break;
        }
    }
    assert!(matches!(write_one.send(Channel::Folder(0), b"x").await, Err(LinkError::Closed)));
    drop(other);
}

/// What a middle man does to the bytes that the dialling side sends, counted from the first.
#[derive(Clone, Copy)]
enum Meddling {
    /// Hangs up after so many.
    CutAfter(usize),
    /// Changes the one at this place.
    FlipAt(usize),
}

/// The error of a reader whose peer sends a large frame past a middle man.
async fn past_a_middle_man(meddling: Meddling) -> LinkError {
    let (mut listener, target) = listener(Limits::default()).await;
    let middle = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = middle.local_addr().expect("bound");
    let pass_on = async {
        let (client, _) = middle.accept().await.expect("the dialling side");
        let server = TcpStream::connect(target).await.expect("it listens");
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let back = tokio::io::copy(&mut from_server, &mut to_client);
        let there = async {
            let (mut piece, mut passed) = (vec![0; 1000], 0);
            while let Ok(n @ 1..) = from_client.read(&mut piece).await {
                match meddling {
                    Meddling::CutAfter(limit) if passed + n > limit => return,
                    Meddling::FlipAt(at) if (passed..passed + n).contains(&at) => {
                        piece[at - passed] ^= 1;
                    }
                    Meddling::CutAfter(_) | Meddling::FlipAt(_) => {}
                }
                passed += n;
                if to_server.write_all(&piece[..n]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = back => {}
            () = there => {}
        }
    };
    let send = async {
        let (_reader, mut writer) = dial(1, addr).await.expect("a link").split();
        // The other end hangs up at some point.
        let _ = writer.send(Channel::Folder(0), &vec![7; 1 << 20]).await;
        let _ = writer.flush().await;
        std::future::pending::<()>().await;
    };
    let receive = async {
        let (mut reader, _writer) = accept(&mut listener).await.split();
        reader.set_limit(MAX_FRAME);
        reader.next().await.map(|_| ()).expect_err("no whole frame arrives")
    };
    tokio::select! {
        error = receive => error,
        () = async { tokio::join!(pass_on, send); } => unreachable!("sending never ends"),
    }
}

#[tokio::test]
async fn truncated_tls_is_a_cut_and_not_an_end() {
    for limit in [50_001, 200_000, 500_000] {
        let error = past_a_middle_man(Meddling::CutAfter(limit)).await;
        assert!(matches!(error, LinkError::Cut), "{error:?}");
    }
}

#[tokio::test]
async fn dsync_02_a_changed_byte_breaks_the_link() {
    // Later than the first record, which may still arrive with the handshake and break that.
    for at in [50_001, 200_000, 500_000] {
        let error = past_a_middle_man(Meddling::FlipAt(at)).await;
        assert!(matches!(error, LinkError::Tls(_)), "{error:?}");
    }
}
