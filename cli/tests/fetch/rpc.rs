//! JSON-RPC by hand: a client, and a proxy that answers as a test wants it.
//!
//! Nothing of the code under test is used, so that both sides cannot be wrong in the same way.

use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// Sends one request and gives its result.
pub(crate) fn call(port: u16, method: &str, params: Value) -> Value {
    let answer =
        post(port, &json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
            .unwrap_or_else(|error| panic!("{method}: {error}"));
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].clone()
}

/// Sends one request and gives the whole answer.
fn post(port: u16, request: &Value) -> io::Result<Value> {
    let body = request.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let body = read_message(&mut stream)?;
    serde_json::from_slice(&body).map_err(io::Error::other)
}

/// Reads headers and a body of stated length.
fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    const END: &[u8] = b"\r\n\r\n";
    let mut message = Vec::new();
    let mut chunk = [0; 65_536];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        message.extend_from_slice(&chunk[..count]);
        let Some(headers_end) = message.windows(END.len()).position(|window| window == END) else {
            continue;
        };
        let headers = String::from_utf8_lossy(&message[..headers_end]).to_ascii_lowercase();
        let length: usize = headers
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|length| length.trim().parse().ok())
            .ok_or_else(|| io::Error::other("a message without length"))?;
        let body = headers_end + END.len();
        if message.len() >= body + length {
            return Ok(message[body..body + length].to_vec());
        }
    }
}

/// What the proxy does with a request.
pub(crate) enum Reply {
    /// Hand it to the node.
    Forward,
    /// Hand it to the node, and change the result.
    Change(fn(&mut Value)),
    /// Answer with an error.
    Error(i64, &'static str),
    /// Answer with an HTTP status and no JSON.
    Status(u16),
    /// Never answer.
    Hang,
}

/// Starts a proxy before the node at `node`. Its threads end with the test process.
pub(crate) fn proxy(
    node: u16,
    reply: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let reply = Arc::new(reply);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let reply = reply.clone();
            // A client that went away is part of the tests.
            thread::spawn(move || serve(stream, node, &*reply).ok());
        }
    });
    port
}

fn serve(
    mut stream: TcpStream,
    node: u16,
    reply: &dyn Fn(&str, &Value) -> Reply,
) -> io::Result<()> {
    let request: Value = serde_json::from_slice(&read_message(&mut stream)?)?;
    let method = request["method"].as_str().unwrap_or_default();
    let (status, body) = match reply(method, &request["params"]) {
        Reply::Forward => (200, with_id(post(node, &request)?, &request)),
        Reply::Change(change) => {
            let mut answer = post(node, &request)?;
            change(&mut answer["result"]);
            (200, with_id(answer, &request))
        }
        Reply::Error(code, message) => {
            let error = json!({"code": code, "message": message});
            (200, json!({"jsonrpc": "2.0", "id": request["id"], "error": error}).to_string())
        }
        Reply::Status(status) => (status, "<html>no</html>".to_owned()),
        Reply::Hang => loop {
            thread::park();
        },
    };
    write!(
        stream,
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn with_id(mut answer: Value, request: &Value) -> String {
    answer["id"] = request["id"].clone();
    answer.to_string()
}
