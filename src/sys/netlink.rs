//! Requests to the kernel's routing socket (rtnetlink(7), netlink(7)), one at a time.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Longer answers than the kernel sends in one piece (NLMSG_GOODSIZE is at most 8 KiB; dumps 32).
const LONGEST: usize = 32 << 10;
/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER: usize = 16;

/// A routing socket of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Route(OwnedFd);

/// A request being put together.
#[derive(Debug)]
pub struct Message(Vec<u8>);

impl Message {
    /// A request of type `kind` (`RTM_*`) with flags beside those that every request has.
    pub fn new(kind: u16, flags: u16) -> Self {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.resize(HEADER, 0);
        Message(bytes)
    }

    /// Adds the fixed part that goes with the type.
    pub fn body(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds an attribute.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a string, with the NUL at its end.
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat())
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0.splice(..4, length.to_ne_bytes());
        self.0
    }
}

impl Route {
    /// Opens a socket in the current network namespace.
    pub fn open() -> Result<Self, Errno> {
        let protocol = SockProtocol::NetlinkRoute;
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map(Route)
    }

    /// Sends a request; the answers without their headers, or the kernel's refusal.
    pub fn request(&self, message: Message) -> Result<Vec<Vec<u8>>, Errno> {
        send(self.0.as_raw_fd(), &message.finish(), MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; LONGEST];
        loop {
            let count = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..count).unwrap_or_default();
            while let Some((kind, body, more)) = split(rest) {
                rest = more;
                match i32::from(kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        return result(body).map(|()| answers);
                    }
                    _ => answers.push(body.to_vec()),
                }
            }
            if !rest.is_empty() || count == 0 {
                return Err(Errno::EBADMSG);
            }
        }
    }
}

/// The first message in `bytes`: its type, what follows its header, and the rest.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The number at the end of an answer: 0, or an errno below zero.
fn result(body: &[u8]) -> Result<(), Errno> {
    match body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(number) => Err(Errno::from_raw(-number)),
        None => Err(Errno::EBADMSG),
    }
}

/// The attributes in `bytes`: type and value. A broken one ends them.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let bytes = Message::new(16, 0).body(&[9; 4]).text(3, "eth0").attribute(28, &[1, 2, 3, 4]);
        let bytes = bytes.finish();
        let (kind, body, rest) = split(&bytes).unwrap();
        assert_eq!((kind, rest), (16, &[][..]));
        let found: Vec<_> = attributes(&body[4..]).collect();
        assert_eq!(found, [(3, &b"eth0\0"[..]), (28, &[1, 2, 3, 4][..])]);
    }

    #[test]
    fn what_is_cut_short_is_no_message() {
        let bytes = Message::new(16, 0).text(3, "eth0").finish();
        for length in 0..bytes.len() {
            assert!(split(&bytes[..length]).is_none(), "{length}");
        }
        assert_eq!(attributes(&[8, 0, 3, 0, 1]).count(), 0);
        assert_eq!(attributes(&[2, 0, 3, 0, 1, 2, 3, 4]).count(), 0);
    }

    #[test]
    fn the_kernel_answers() {
        let route = Route::open().unwrap();
        let by_name =
            |name| Message::new(libc::RTM_GETLINK, 0).body(&[0; 16]).text(libc::IFLA_IFNAME, name);
        assert_eq!(route.request(by_name("lo")).unwrap().len(), 1);
        assert_eq!(route.request(by_name("none-such")).unwrap_err(), Errno::ENODEV);
    }
}
