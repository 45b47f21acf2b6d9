//! A connection to another device through the relay.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode, client::conn::http1, header, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use wire::relay::{Answer, MAX_ANSWER, Meet, MeetingId, Refusal};

use super::{ClientError, in_time, told};
use crate::{RelayAddress, frames};

/// The protocol that the stream is upgraded to.
const PROTOCOL: &str = "kin-splice/1";

/// Bytes to and from another device, as over TCP. The relay sees them: they need an encryption of their own.
#[derive(Debug)]
pub struct Splice(TokioIo<Upgraded>);

impl Splice {
    pub(super) async fn open(
        stream: TlsStream<TcpStream>,
        address: &RelayAddress,
        meeting: MeetingId,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let broken = |error: io::Error| ClientError::broken(&error);
        let begin = async {
            let mut stream = upgraded(stream, address, "/v1/splice", PROTOCOL).await?;
            frames::write(&mut stream, &Meet { meeting }.encode()).await.map_err(broken)?;
            Ok(stream)
        };
        let mut stream = in_time(begin).await?;
        let met = timeout(patience, frames::read_exactly_one(&mut stream, MAX_ANSWER)).await;
        let Ok(answer) = met else { return Err(ClientError::Refused(Refusal::Unavailable)) };
        match Answer::decode(&answer.map_err(broken)?).map_err(|it| ClientError::broken(&it))? {
            Answer::Done => Ok(Self(stream)),
            Answer::Refused(refusal) => Err(told(refusal)),
            Answer::Entry(_) | Answer::Absent => {
                Err(ClientError::Broken("it answered another question".to_owned()))
            }
        }
    }
}

impl AsyncRead for Splice {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Splice {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// Upgrades a connection to a stream.
pub(super) async fn upgraded(
    stream: TlsStream<TcpStream>,
    address: &RelayAddress,
    path: &'static str,
    protocol: &'static str,
) -> Result<TokioIo<Upgraded>, ClientError> {
    let broken = |error: hyper::Error| ClientError::broken(&error);
    let (mut sender, driving) = http1::Builder::new()
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let driver = tokio::spawn(async {
        // Whoever waits for the stream hears of it there.
        let _ = driving.with_upgrades().await;
    });
    let request = Request::get(path)
        .header(header::HOST, address.host())
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, protocol)
        .body(Empty::new())
        .map_err(|error| ClientError::broken(&error))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::Broken(format!("status {}", answer.status().as_u16())));
        }
        hyper::upgrade::on(answer).await.map(TokioIo::new).map_err(broken)
    };
    let answered = answer.await;
    if answered.is_err() {
        driver.abort();
    }
    answered
}
