//! A small blocking D-Bus client (D-Bus Specification, "Message Protocol", "Authentication
//! Protocol"): enough to call systemd and to hear its answers. No threads, no descriptors passed,
//! and nothing that the other side sends can do more than make a call fail.

mod text;
mod value;

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

pub use text::parse;
pub use value::{Reader, Value};

/// The most that a message may take, in bytes; the specification allows 128 MiB.
const LONGEST: usize = 1 << 20;
/// The bytes of a header before its fields.
const FIXED: usize = 16;
/// How long an answer may take: a busy systemd with hundreds of starts before ours needs seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Types of messages.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// What is called: the four names that address a method.
#[derive(Debug, Clone, Copy)]
pub struct Method<'a> {
    /// The well-known name of the service.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method's name.
    pub member: &'a str,
}

/// Why a call failed.
#[derive(Debug)]
pub enum Failure {
    /// The connection broke, or what came through it is no D-Bus.
    Io(io::Error),
    /// The service refused: the error's name (`org.freedesktop.…`) and its words.
    Refused(String, String),
}

impl From<io::Error> for Failure {
    fn from(err: io::Error) -> Self {
        Failure::Io(err)
    }
}

/// A message that was received; what is missing in it is empty.
#[derive(Debug, Default)]
pub struct Message {
    kind: u8,
    reply_to: u32,
    member: String,
    error: String,
    body: Vec<u8>,
}

impl Message {
    /// The arguments.
    pub fn body(&self) -> Reader<'_> {
        Reader::new(&self.body)
    }

    /// Whether it is a signal of this name.
    pub fn is_signal(&self, member: &str) -> bool {
        self.kind == SIGNAL && self.member == member
    }
}

/// A connection to a service, or to the bus that has it.
#[derive(Debug)]
pub struct Connection {
    socket: BufReader<UnixStream>,
    serial: u32,
}

impl Connection {
    /// Connects to the socket and proves who we are: by the kernel's word on our user id alone, so
    /// that it works in a user namespace, where both sides number it differently.
    ///
    /// # Errors
    /// There is no such socket, or it does not let us in.
    pub fn open(path: &Path) -> io::Result<Connection> {
        let socket = UnixStream::connect(path)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut socket = BufReader::new(socket);
        // All of it at once, as systemd's own library does: its server overlooks a call that comes in
        // the same packet as the end of the authentication.
        socket.get_mut().write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        if line(&mut socket)? != b"DATA\r\n" || !line(&mut socket)?.starts_with(b"OK ") {
            return Err(ErrorKind::PermissionDenied.into());
        }
        Ok(Connection { socket, serial: 0 })
    }

    /// Calls a method and waits for its answer. Signals that come before it are dropped.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn call(&mut self, method: Method, arguments: &[Value]) -> Result<Message, Failure> {
        self.serial += 1;
        self.socket.get_mut().write_all(&encode(method, arguments, self.serial))?;
        let end = Instant::now() + PATIENCE;
        loop {
            let message = receive(&mut self.socket, end)?;
            match message.kind {
                RETURN if message.reply_to == self.serial => return Ok(message),
                ERROR if message.reply_to == self.serial => {
                    let words = message.body().text().unwrap_or_default().to_owned();
                    return Err(Failure::Refused(message.error, words));
                }
                _ => {}
            }
        }
    }

    /// Waits for a message in which `look` finds something; others are dropped.
    ///
    /// # Errors
    /// The connection broke, or the message does not come.
    pub fn wait<T>(&mut self, look: impl Fn(&Message) -> Option<T>) -> io::Result<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(&receive(&mut self.socket, end)?) {
                return Ok(found);
            }
        }
    }
}

/// One line of the authentication; they are short.
fn line(socket: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    socket.take(256).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// A method call as bytes.
fn encode(method: Method, arguments: &[Value], serial: u32) -> Vec<u8> {
    let mut body = Vec::new();
    arguments.iter().for_each(|argument| argument.encode(&mut body));
    let signature: String = arguments.iter().map(Value::signature).collect();
    let text = |code, kind, text: &str| field(code, Value::Text(kind, text.to_owned()));
    let mut fields = vec![
        text(PATH, b'o', method.path),
        text(INTERFACE, b's', method.interface),
        text(MEMBER, b's', method.member),
        text(DESTINATION, b's', method.destination),
    ];
    if !signature.is_empty() {
        fields.push(text(SIGNATURE, b'g', &signature));
    }
    let mut message = vec![b'l', CALL, 0, 1];
    message.extend((body.len() as u32).to_le_bytes());
    message.extend(serial.to_le_bytes());
    Value::Array("(yv)".into(), fields).encode(&mut message);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}

fn field(code: u8, value: Value) -> Value {
    Value::Struct(vec![Value::Fixed(b'y', code.into()), Value::Variant(Box::new(value))])
}

/// Receives one message, until `end`.
fn receive(socket: &mut BufReader<UnixStream>, end: Instant) -> io::Result<Message> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    socket.get_ref().set_read_timeout(Some(left))?;
    let mut start = [0; FIXED];
    read(socket, &mut start)?;
    let (fields, body) = lengths(&start).ok_or(ErrorKind::InvalidData)?;
    let padded = fields.next_multiple_of(8);
    let mut rest = vec![0; padded + body];
    read(socket, &mut rest)?;
    let (fields, body) = rest.split_at_checked(padded).ok_or(ErrorKind::InvalidData)?;
    let mut message = header(&start, fields).ok_or(ErrorKind::InvalidData)?;
    message.body = body.to_owned();
    Ok(message)
}

/// Where std says that nothing came in time, we say so too.
fn read(socket: &mut BufReader<UnixStream>, buffer: &mut [u8]) -> io::Result<()> {
    socket.read_exact(buffer).map_err(|err| match err.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => err,
    })
}

/// The lengths of the fields and of the body.
fn lengths(start: &[u8; FIXED]) -> Option<(usize, usize)> {
    let mut reader = Reader::new(start);
    let order = reader.byte()?;
    let _type_flags_version = (reader.byte()?, reader.byte()?, reader.byte()?);
    let body = usize::try_from(reader.number()?).ok()?;
    let _serial = reader.number()?;
    let fields = usize::try_from(reader.number()?).ok()?;
    (order == b'l' && body <= LONGEST && fields <= LONGEST).then_some((fields, body))
}

/// The fields of a header; those that we do not know are skipped.
fn header(start: &[u8; FIXED], fields: &[u8]) -> Option<Message> {
    let mut message = Message { kind: start[1], ..Message::default() };
    let mut reader = Reader::new(fields);
    // The padding behind the last field is zero, and no field has this code.
    while let Some(code) = reader.structure().filter(|code| *code != 0) {
        match (reader.signature()?, code) {
            ("u", REPLY_SERIAL) => message.reply_to = reader.number()?,
            ("u", _) => drop(reader.number()?),
            ("g", _) => drop(reader.signature()?),
            ("s" | "o", MEMBER) => message.member = reader.text()?.to_owned(),
            ("s" | "o", ERROR_NAME) => message.error = reader.text()?.to_owned(),
            ("s" | "o", _) => drop(reader.text()?),
            _ => return None,
        }
    }
    Some(message)
}

#[cfg(test)]
mod tests;
