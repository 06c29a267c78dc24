//! Stands between a shipper and the store, and does to it what networks and stores do: passes on, waits, refuses, is away.
//! It understands as much HTTP as shippers send: requests with a length.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What happens to requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The store gets them.
    Pass,
    /// The store gets them after so long.
    Slow(Duration),
    /// They are answered with this status, and `Retry-After: 1`.
    Refuse(u16),
    /// Each document of a bulk request is answered with this status, and the request with 200.
    RefuseEach(u16),
    /// Connections are closed without an answer.
    Away,
}

/// A listener on loopback; its threads end with the test's process.
#[derive(Clone, Debug)]
pub struct Gate {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    manner: Manner,
    store: SocketAddr,
    /// Put behind each path: how a store is told which field is the time.
    query: String,
    /// Of requests that the store did not get.
    refused: u64,
    /// Requests for it, first line alone, to tell what a shipper asks.
    passed: Vec<String>,
}

impl Gate {
    /// Passes on to the store.
    pub fn before(store: SocketAddr) -> Self {
        Self::with_query(store, "")
    }

    /// The same, with `query` behind each path.
    pub fn with_query(store: SocketAddr, query: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind to a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let query = query.to_owned();
        let state = State { manner: Manner::Pass, store, query, refused: 0, passed: Vec::new() };
        let gate = Self { address, state: Arc::new(Mutex::new(state)) };
        let serving = gate.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let gate = serving.clone();
                // A client that goes away in the middle is its own business.
                thread::spawn(move || drop(gate.serve(&client)));
            }
        });
        gate
    }

    /// Where shippers find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub fn be(&self, manner: Manner) {
        self.lock().manner = manner;
    }

    /// How many requests the store did not get.
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// The request lines that the store did get.
    pub fn passed(&self) -> Vec<String> {
        self.lock().passed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(client);
        while let Some(request) = Request::read(&mut reader, client)? {
            let manner = self.lock().manner.clone();
            match manner {
                Manner::Pass => self.pass(&request, client)?,
                Manner::Slow(time) => {
                    thread::sleep(time);
                    self.pass(&request, client)?;
                }
                Manner::Refuse(status) => {
                    self.lock().refused += 1;
                    write!(&*client, "HTTP/1.1 {status} No\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n")?;
                }
                Manner::RefuseEach(status) => {
                    self.lock().refused += 1;
                    let answer = refused_each(&request.body, status);
                    let length = answer.len();
                    write!(&*client, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}")?;
                }
                Manner::Away => {
                    self.lock().refused += 1;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn pass(&self, request: &Request, mut client: &TcpStream) -> io::Result<()> {
        let (store, query) = {
            let state = self.lock();
            (state.store, state.query.clone())
        };
        let answer = request.send(store, &query)?;
        self.lock().passed.push(request.first.clone());
        client.write_all(&answer)
    }
}

/// What Elasticsearch says of documents for which it has no room.
fn refused_each(bulk: &[u8], status: u16) -> String {
    let documents =
        bulk.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{\"create\":")).count();
    let refusal =
        format!(r#"{{"create":{{"status":{status},"error":{{"type":"es_rejected_execution_exception"}}}}}}"#);
    format!(r#"{{"errors":true,"items":[{}]}}"#, vec![refusal; documents].join(","))
}

/// A request as it came.
struct Request {
    /// `POST /path HTTP/1.1`
    first: String,
    /// The rest of the head, without what is said of the connection.
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    fn read(reader: &mut impl BufRead, mut client: &TcpStream) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            head.push(line.to_owned());
        }
        let value = |wanted: &str| {
            head.iter().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
            })
        };
        let length = value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if value("expect").is_some() {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let first = head.remove(0);
        head.retain(|line| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            !["connection", "expect", "keep-alive"].contains(&name.as_str())
        });
        Ok(Some(Self { first, headers: head, body }))
    }

    /// The store's answer, whole: it is asked to close behind it.
    fn send(&self, store: SocketAddr, query: &str) -> io::Result<Vec<u8>> {
        let mut words = self.first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let joint = match query {
            "" => "",
            _ if path.contains('?') => "&",
            _ => "?",
        };
        let mut stream = TcpStream::connect(store)?;
        write!(stream, "{method} {path}{joint}{query} HTTP/1.1\r\n")?;
        for header in &self.headers {
            write!(stream, "{header}\r\n")?;
        }
        stream.write_all(b"connection: close\r\n\r\n")?;
        stream.write_all(&self.body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}
