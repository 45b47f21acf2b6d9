//! Requests, many on one connection.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, client::conn::http2, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::AbortHandle};
use tokio_rustls::client::TlsStream;
use wire::relay::{
    Answer, CHANNEL_LEN, Deposit, DepositToken, Get, LookupId, MAX_ANSWER, OwnerKey, Put, Remove,
    Settle, Signed, Withdraw,
};

use super::{ClientError, in_time, told};
use crate::tls;

/// Requests at once before the relay has said how many it takes.
const FIRST_STREAMS: usize = 16;

/// A connection to a relay, for requests. Requests may run at the same time.
#[derive(Debug)]
pub struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    channel: [u8; CHANNEL_LEN],
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    pub(super) async fn open(stream: TlsStream<TcpStream>) -> Result<Self, ClientError> {
        let tls = stream.get_ref().1;
        if tls.alpn_protocol() != Some(tls::HTTP2) {
            return Err(ClientError::Broken("it speaks another protocol".to_owned()));
        }
        let channel = tls::channel(tls).map_err(|error| ClientError::broken(&error))?;
        let (sender, driving) = http2::Builder::new(TokioExecutor::new())
            .initial_max_send_streams(FIRST_STREAMS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ClientError::broken(&error))?;
        let driver = tokio::spawn(async {
            // Whoever waits for an answer hears of it there.
            let _ = driving.await;
        });
        Ok(Self { sender, channel, driver: driver.abort_handle() })
    }

    /// As [`super::Client::put`].
    ///
    /// # Errors
    /// As there.
    pub async fn put(
        &self,
        key: &OwnerKey,
        lookup: LookupId,
        until: u64,
        entry: Bytes,
    ) -> Result<(), ClientError> {
        let signed = Signed::Put { lookup, until, entry: &entry };
        let signature = signed.sign(&self.channel, key);
        let put = Put { lookup, owner: key.owner(), until, entry, signature };
        self.done("/v1/rendezvous/put", put.encode()).await
    }

    /// As [`super::Client::get`].
    ///
    /// # Errors
    /// As there.
    pub async fn get(&self, lookup: LookupId) -> Result<Option<Bytes>, ClientError> {
        match self.ask("/v1/rendezvous/get", Get { lookup }.encode()).await? {
            Answer::Entry(entry) => Ok(Some(entry)),
            Answer::Absent => Ok(None),
            Answer::Refused(refusal) => Err(told(refusal)),
            Answer::Done => Err(nonsense()),
        }
    }

    /// As [`super::Client::withdraw`].
    ///
    /// # Errors
    /// As there.
    pub async fn withdraw(&self, key: &OwnerKey, lookup: LookupId) -> Result<(), ClientError> {
        let signature = Signed::Withdraw(lookup).sign(&self.channel, key);
        let withdraw = Withdraw { lookup, owner: key.owner(), signature };
        self.done("/v1/rendezvous/withdraw", withdraw.encode()).await
    }

    /// As [`super::Client::settle`].
    ///
    /// # Errors
    /// As there.
    pub async fn settle(&self, key: &OwnerKey, token: &DepositToken) -> Result<(), ClientError> {
        let token = token.hash();
        let signature = Signed::Settle(token).sign(&self.channel, key);
        let settle = Settle { owner: key.owner(), token, signature };
        self.done("/v1/mailbox/settle", settle.encode()).await
    }

    /// As [`super::Client::remove`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove(&self, key: &OwnerKey) -> Result<(), ClientError> {
        let signature = Signed::Remove.sign(&self.channel, key);
        let remove = Remove { owner: key.owner(), signature };
        self.done("/v1/mailbox/remove", remove.encode()).await
    }

    /// As [`super::Client::deposit`]; the envelope is not checked here.
    ///
    /// # Errors
    /// As there.
    pub async fn deposit(&self, deposit: &Deposit) -> Result<(), ClientError> {
        self.done("/v1/mailbox/deposit", deposit.encode()).await
    }

    async fn done(&self, path: &'static str, body: Vec<u8>) -> Result<(), ClientError> {
        match self.ask(path, body).await? {
            Answer::Done => Ok(()),
            Answer::Refused(refusal) => Err(told(refusal)),
            Answer::Entry(_) | Answer::Absent => Err(nonsense()),
        }
    }

    async fn ask(&self, path: &'static str, body: Vec<u8>) -> Result<Answer, ClientError> {
        let request = Request::post(format!("https://relay{path}"))
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::broken(&error))?;
        in_time(async {
            let mut sender = self.sender.clone();
            sender.ready().await.map_err(|error| ClientError::broken(&error))?;
            let answer =
                sender.send_request(request).await.map_err(|error| ClientError::broken(&error))?;
            if answer.status() != hyper::StatusCode::OK {
                return Err(ClientError::Broken(format!("status {}", answer.status().as_u16())));
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| ClientError::broken(&*error))?.to_bytes();
            Answer::decode(&body).map_err(|error| ClientError::broken(&error))
        })
        .await
    }
}

fn nonsense() -> ClientError {
    ClientError::Broken("it answered another question".to_owned())
}
