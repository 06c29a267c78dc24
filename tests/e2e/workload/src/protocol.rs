//! What client and server say to each other: the client's one byte names the ending, the server's one byte says
//! that it has the connection, and then it ends that way.
//!
//! The server answers before either closes, because a client that closes at once may have its connection still in
//! the server's backlog, and because simultaneous closes would make transitions that no log can tell.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::log::Ending;

const READY: u8 = b'!';
/// Nothing takes this long but a peer that is gone.
const PATIENCE: Duration = Duration::from_secs(20);
/// For so long a client may be silent once it has its answer.
const SILENCE: Duration = Duration::from_mins(2);

/// The client's part, from an established connection to its end.
pub fn end_as_client(mut stream: TcpStream, ending: Ending) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[letter(ending)])?;
    if ending == Ending::ServerReset {
        // A RST takes what was not read yet with it: the server sends no byte before.
        return await_reset(&mut stream);
    }
    await_ready(&mut stream)?;
    match ending {
        Ending::ClientClose => close_first(&mut stream),
        Ending::ServerClose => await_fin(&mut stream),
        Ending::ClientReset => reset(stream),
        Ending::ServerReset | Ending::Refused => Err(unexpected("an ending without a connection")),
    }
}

/// The same in good order, but the client is silent for a while when it has its answer, and then speaks once more if
/// it was.
pub fn be_silent_as_client(mut stream: TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[letter(Ending::ClientClose)])?;
    await_ready(&mut stream)?;
    if !silence.is_zero() {
        thread::sleep(silence);
        stream.write_all(&[READY])?;
    }
    close_first(&mut stream)
}

/// The server's part; how the connection ended as seen from here.
pub fn end_as_server(mut stream: TcpStream) -> io::Result<Ending> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut asked = [0];
    stream.read_exact(&mut asked)?;
    let asked = ending(asked[0]).ok_or_else(|| unexpected("a letter that names no ending"))?;
    if asked == Ending::ServerReset {
        reset(stream)?;
        return Ok(asked);
    }
    stream.write_all(&[READY])?;
    if asked == Ending::ServerClose {
        close_first(&mut stream)?;
        return Ok(asked);
    }
    stream.set_read_timeout(Some(SILENCE))?;
    match stream.read(&mut [0]) {
        Ok(0) => Ok(Ending::ClientClose),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Ending::ClientReset),
        Ok(_) => Err(unexpected("a byte after the ending")),
        Err(error) => Err(error),
    }
}

fn await_ready(stream: &mut TcpStream) -> io::Result<()> {
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    if answer[0] == READY { Ok(()) } else { Err(unexpected("another answer than the server's")) }
}

/// Sends the FIN and waits for the other end's.
fn close_first(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    await_fin(stream)
}

fn await_fin(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(unexpected("a byte where the FIN was due")),
    }
}

fn await_reset(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Ok(_) => Err(unexpected("no RST where one was due")),
        Err(error) => Err(error),
    }
}

/// With a linger time of zero, close sends a RST.
fn reset(stream: TcpStream) -> io::Result<()> {
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

fn letter(ending: Ending) -> u8 {
    match ending {
        Ending::ClientClose => b'c',
        Ending::ServerClose => b's',
        Ending::ClientReset => b'C',
        Ending::ServerReset => b'S',
        Ending::Refused => b'-',
    }
}

fn ending(of: u8) -> Option<Ending> {
    Ending::ALL.into_iter().find(|ending| *ending != Ending::Refused && letter(*ending) == of)
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
