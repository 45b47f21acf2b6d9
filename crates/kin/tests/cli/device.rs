//! A device that a test plays: it listens where the real one would, and answers as it was told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use node::api::{Answer, ApiEvent, Failure, Request, Server, Service};
use serde_json::Value;
use tokio::{runtime::Runtime, sync::mpsc};
use tree::StateDir;

use crate::Home;

/// What happens when a request comes.
pub(crate) enum Reply {
    Value(Value),
    Failure(Failure),
    /// The events of a stream; then it ends.
    Events(Vec<ApiEvent>),
    /// The events of a stream that waits, before the one with this number, for so many requests more.
    Waits(Vec<ApiEvent>, usize),
}

#[derive(Default)]
struct Script {
    replies: Mutex<VecDeque<Reply>>,
    asked: Mutex<Vec<Request>>,
    heard: tokio::sync::Notify,
}

impl Script {
    fn next(&self, request: Request) -> Reply {
        self.asked.lock().expect("no test panics here").push(request);
        self.heard.notify_waiters();
        let next = self.replies.lock().expect("no test panics here").pop_front();
        next.unwrap_or_else(|| {
            Reply::Failure(Failure::failed("unexpected", "nothing is left to say"))
        })
    }

    fn has_a_stream_next(&self) -> bool {
        let replies = self.replies.lock().expect("no test panics here");
        matches!(replies.front(), Some(Reply::Events(_) | Reply::Waits(..)))
    }

    async fn until(&self, count: usize) {
        loop {
            let heard = self.heard.notified();
            if self.asked.lock().expect("no test panics here").len() >= count {
                return;
            }
            heard.await;
        }
    }
}

/// The service needs the script for longer than a call.
struct Player(Arc<Script>);

impl Service for Player {
    fn request(&self, request: Request) -> Answer<'_, Value> {
        if matches!(request, Request::Answer { .. } | Request::Choose { .. }) {
            // These come in between; what they bring about is in the stream.
            self.0.asked.lock().expect("no test panics here").push(request);
            self.0.heard.notify_waiters();
            return Box::pin(async { Ok(serde_json::json!({ "taken": true })) });
        }
        // Who belongs to it before a stream is nobody, and nothing to tell of.
        if request == (Request::Devices { group: None }) && self.0.has_a_stream_next() {
            return Box::pin(async { Ok(serde_json::json!([])) });
        }
        let reply = self.0.next(request);
        Box::pin(async move {
            match reply {
                Reply::Value(value) => Ok(value),
                Reply::Failure(failure) => Err(failure),
                Reply::Events(_) | Reply::Waits(..) => {
                    Err(Failure::failed("test", "this is no stream"))
                }
            }
        })
    }

    fn stream(&self, request: Request) -> Answer<'_, mpsc::Receiver<ApiEvent>> {
        let reply = self.0.next(request);
        let script = Arc::clone(&self.0);
        Box::pin(async move {
            let (events, waits) = match reply {
                Reply::Events(events) => (events, None),
                Reply::Waits(events, at) => (events, Some(at)),
                Reply::Failure(failure) => return Err(failure),
                Reply::Value(_) => return Err(Failure::failed("test", "this is a stream")),
            };
            let (send, receive) = mpsc::channel(64);
            tokio::spawn(async move {
                let asked = script.asked.lock().expect("no test panics here").len();
                for (number, event) in events.into_iter().enumerate() {
                    if let Some(at) = waits
                        && number >= at
                    {
                        script.until(asked + number + 1 - at).await;
                    }
                    if send.send(event).await.is_err() {
                        return;
                    }
                }
            });
            Ok(receive)
        })
    }
}

/// A device that is running.
pub(crate) struct Device {
    script: Arc<Script>,
    /// Ends the server when it is dropped.
    _runtime: Runtime,
}

impl Device {
    /// Listens in a home and answers with these, one after the other.
    pub(crate) fn run(home: &Home, replies: Vec<Reply>) -> Self {
        let runtime = Runtime::new().expect("threads can be had");
        let script = Arc::new(Script { replies: Mutex::new(replies.into()), ..Script::default() });
        let state = StateDir::open(home.path()).expect("is ours");
        let lock = state.lock().expect("is free");
        let server = {
            let _context = runtime.enter();
            Server::bind(home.path(), None, &lock).expect("can listen")
        };
        let player: Arc<dyn Service> = Arc::new(Player(Arc::clone(&script)));
        runtime.spawn(server.serve(player, std::future::pending()));
        Self { script, _runtime: runtime }
    }

    /// What it was asked.
    pub(crate) fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.script.asked.lock().expect("no test panics here"))
    }
}
