//! A device behind its socket, seen from a command.

use std::{
    io,
    path::{Path, PathBuf},
};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, sync::mpsc, task::JoinHandle};

use super::{Answer, ApiEvent, Failure, Request, Service, server::is_own};

/// Largest answer in bytes; a hundred thousand folders fit.
const MAX_ANSWER: usize = 64 << 20;
/// Longest event in bytes.
const MAX_EVENT: usize = 1 << 20;
/// Events that may wait for whoever reads them.
const EVENTS: usize = 64;

/// The device that listens at a socket. Each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// The device that listens at this path; `None` if none does.
    ///
    /// # Errors
    /// If something else is there, or it belongs to another user.
    pub async fn connect(path: &Path) -> Result<Option<Self>, Failure> {
        match open(path).await {
            Ok(_) => Ok(Some(Self { path: path.to_owned() })),
            Err(Unreachable::Nobody) => Ok(None),
            Err(Unreachable::Other(failure)) => Err(failure),
        }
    }

    /// Sends a request and reads the head of its answer.
    async fn send(&self, request: &Request) -> Result<(Response<Incoming>, Connection), Failure> {
        let stream = open(&self.path).await.map_err(|error| match error {
            Unreachable::Nobody => {
                Failure::failed("not_running", "the device has stopped meanwhile").hint("try again")
            }
            Unreachable::Other(failure) => failure,
        })?;
        let (name, fields) = request.to_parts();
        let body = serde_json::to_vec(&fields).map_err(|error| broken(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let connection = Connection(tokio::spawn(async move {
            // What goes wrong is seen by whoever waits for the answer.
            let _ = connection.await;
        }));
        let request = hyper::Request::builder()
            .method(Method::POST)
            .uri(format!("/v1/{name}"))
            .header(header::HOST, "kin")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::from(body))
            .map_err(|error| broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        if response.status() == StatusCode::OK {
            return Ok((response, connection));
        }
        let body = whole(response).await?;
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| {
            Failure::failed("protocol", "the device at the socket did not answer as kin does")
                .hint("is it another version? stop it with kin down and start it again with kin up")
        }))
    }
}

impl Service for Client {
    fn request(&self, request: Request) -> Answer<'_, Value> {
        Box::pin(async move {
            let (response, _connection) = self.send(&request).await?;
            let body = whole(response).await?;
            serde_json::from_slice(&body).map_err(|error| broken(&error))
        })
    }

    fn stream(&self, request: Request) -> Answer<'_, mpsc::Receiver<ApiEvent>> {
        Box::pin(async move {
            let (response, connection) = self.send(&request).await?;
            let (events, receiver) = mpsc::channel(EVENTS);
            tokio::spawn(pump(response.into_body(), connection, events));
            Ok(receiver)
        })
    }
}

/// Ends with its owner, and so does the request that it carries.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why there is no connection.
enum Unreachable {
    /// Nobody listens there.
    Nobody,
    /// Something is wrong.
    Other(Failure),
}

async fn open(path: &Path) -> Result<UnixStream, Unreachable> {
    let failed = |why: &dyn std::fmt::Display| {
        Unreachable::Other(
            Failure::failed("socket", format!("{}: {why}", path.display()))
                .hint("stop the device that listens there and start it again"),
        )
    };
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) => {
            return Err(match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::NotADirectory => Unreachable::Nobody,
                _ => failed(&error),
            });
        }
    };
    if !is_own(&stream) {
        return Err(failed(&"another user's program listens there"));
    }
    Ok(stream)
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    Ok(body.map_err(|error| broken(&error))?.to_bytes())
}

fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::failed("protocol", format!("the connection to the device broke off: {error}"))
        .hint("kin log says why, if it stopped; try again")
}

/// Reads lines until the stream ends or nobody listens. An event of a later version is skipped.
async fn pump(mut body: Incoming, _connection: Connection, events: mpsc::Sender<ApiEvent>) {
    let mut line = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = events.closed() => return,
        };
        let Some(Ok(frame)) = frame else { return };
        let Ok(data) = frame.into_data() else { continue };
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.len() > MAX_EVENT {
                return;
            }
            if !part.ends_with(b"\n") {
                continue;
            }
            let event = serde_json::from_slice(&line);
            line.clear();
            if let Ok(event) = event
                && events.send(event).await.is_err()
            {
                return;
            }
        }
    }
}
