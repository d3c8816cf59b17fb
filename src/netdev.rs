//! Network devices of the host that the container gets (config-linux.md "Network Devices"): each is
//! moved and renamed in one request, gets its addresses back, and is brought up. A container that was not
//! made gives it back; where it goes when the namespace ends is the kernel's business.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{fstat, stat};

use crate::error::{Doing, Error, Result};
use crate::log;
use crate::namespaces::{self, Excursion, KINDS, NEWNET};
use crate::spec::config::{Linux, NetDevice};
use crate::spec::position::member;
use crate::sys::netlink::{Message, Route, attributes};
use crate::sys::process::euid;

// linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h.
const RTM_NEWLINK: u16 = libc::RTM_NEWLINK;
const RTM_GETLINK: u16 = libc::RTM_GETLINK;
const RTM_NEWADDR: u16 = libc::RTM_NEWADDR;
const RTM_GETADDR: u16 = libc::RTM_GETADDR;
const IFLA_IFNAME: u16 = libc::IFLA_IFNAME;
const IFLA_NET_NS_FD: u16 = libc::IFLA_NET_NS_FD;
const IFA_FLAGS: u16 = libc::IFA_FLAGS;
/// linux/if_addr.h; libc lacks them.
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;
/// What of an address goes with it: address, local, broadcast, the metric of its route, and who gave
/// it; its label holds the old name.
const KEPT: [u16; 5] =
    [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_BROADCAST, IFA_RT_PRIORITY, IFA_PROTO];
/// Those of its flags that a user sets.
const KEPT_FLAGS: u32 = libc::IFA_F_NODAD
    | libc::IFA_F_HOMEADDRESS
    | libc::IFA_F_MANAGETEMPADDR
    | libc::IFA_F_NOPREFIXROUTE
    | libc::IFA_F_MCAUTOJOIN;

/// The index of `lo` in every network namespace (LOOPBACK_IFINDEX in include/net/flow.h).
const LOOPBACK: i32 = 1;

/// A device that is moved.
#[derive(Debug, Clone)]
pub struct Move {
    /// Its name on the host.
    name: String,
    /// Its name in the container; may hold one `%d` for the first number that is free.
    new_name: String,
}

impl Move {
    /// What `linux.netDevices` orders; names have been checked.
    pub fn plan(linux: &Linux) -> Result<Vec<Self>> {
        if euid() != 0 {
            let what = "network devices are not supported for rootless containers";
            return Err(Error::new(what).at("linux.netDevices"));
        }
        let devices = linux.net_devices.iter().flatten();
        let plan = |(name, NetDevice { name: new }): (&String, &NetDevice)| Move {
            name: name.clone(),
            new_name: new.clone().filter(|new| !new.is_empty()).unwrap_or_else(|| name.clone()),
        };
        Ok(devices.map(plan).collect())
    }

    /// The JSON path of its entry.
    pub fn at(&self) -> String {
        member("linux.netDevices", &self.name)
    }

    /// Looks whether the host has it, and lets it go.
    ///
    /// # Errors
    /// There is no such device, or it is the loopback device.
    pub fn check_here(&self) -> Result<()> {
        match self.find(&Route::open()?)?.0 {
            LOOPBACK => Err(self.stuck(Errno::EINVAL)),
            _ => Ok(()),
        }
    }

    /// Looks whether it can be moved into the network namespace behind `target`: what was moved
    /// before another device was refused would be gone with that namespace.
    ///
    /// # Errors
    /// There is no such device, its new name is taken, or it is in that namespace already.
    pub fn check(&self, target: BorrowedFd) -> Result<()> {
        if is_own(target)? {
            let what = "unable to move network devices without a NET namespace";
            return Err(Error::new(what).hint("the one that is joined is the runtime's own"));
        }
        self.find(&Route::open()?)?;
        self.free_name(&route_in(target)?).map(drop)
    }

    /// Moves it into the network namespace behind `target`.
    ///
    /// # Errors
    /// There is no such device, its new name is taken, the kernel lets it go nowhere, or it cannot be
    /// set up over there. It is where and as it was then.
    pub fn perform(&self, target: BorrowedFd) -> Result<Moved> {
        let namespace = target.try_clone_to_owned()?;
        let here = Route::open()?;
        let (link, flags) = self.find(&here)?;
        let addresses =
            addresses(&here, link).doing(|| format!("get addresses of {}", self.name))?;
        let there = route_in(target)?;
        let name = self.free_name(&there)?;
        let request = Message::new(RTM_NEWLINK, 0)
            .body(&link_header(link, 0))
            .text(IFLA_IFNAME, &name)
            .attribute(IFLA_NET_NS_FD, &target.as_raw_fd().to_ne_bytes());
        here.request(request).map_err(|errno| self.stuck(errno))?;
        let was_up = flags & libc::IFF_UP as u32 != 0;
        let moved = Moved { device: self.clone(), namespace, name, addresses, was_up };
        match set_up(&there, &moved.name, &moved.addresses, true) {
            Ok(()) => Ok(moved),
            Err(err) => {
                moved.give_back();
                Err(err)
            }
        }
    }

    /// Its index on the host, and its flags.
    fn find(&self, here: &Route) -> Result<(i32, u32)> {
        link(here, &self.name)
            .and_then(|found| found.ok_or(Errno::ENODEV))
            .doing(|| format!("link not found for interface {} on runtime namespace", self.name))
            .map_err(|err| err.hint("ip link lists the host's; it may be in another container"))
    }

    /// The name that it gets: looked for before it is moved, as the kernel moves it first and finds
    /// that the name is taken then.
    fn free_name(&self, there: &Route) -> Result<String> {
        let is_free = |name: &str| Ok::<_, Errno>(link(there, name)?.is_none());
        let taken = || self.stuck(Errno::EEXIST).hint("the container has a device of this name");
        if !self.new_name.contains("%d") {
            return if is_free(&self.new_name)? { Ok(self.new_name.clone()) } else { Err(taken()) };
        }
        for number in 0..u16::MAX {
            let name = self.new_name.replacen("%d", &number.to_string(), 1);
            if name.len() >= libc::IFNAMSIZ {
                break;
            }
            if is_free(&name)? {
                return Ok(name);
            }
        }
        Err(taken())
    }

    fn stuck(&self, errno: Errno) -> Error {
        let what = format!("fail to move network device {} to the container as", self.name);
        let err = Error::sys(format!("{what} {}", self.new_name), errno);
        match errno {
            Errno::EINVAL => {
                err.hint("the kernel does not let this kind of device change namespaces")
            }
            _ => err,
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "move network device {} into the container as {}", self.name, self.new_name)
    }
}

/// A device that has been moved, with what it takes to give it back.
#[derive(Debug)]
pub struct Moved {
    device: Move,
    /// Where it is: open, the namespace does not take it along when its last process ends.
    namespace: OwnedFd,
    /// Its name over there.
    name: String,
    addresses: Vec<Address>,
    was_up: bool,
}

impl Moved {
    /// Gives the host its device back, as it was: a container that was not made has taken nothing
    /// (runtime.md, "Errors"). What cannot be given back is reported.
    pub fn give_back(&self) {
        if let Err(err) = self.move_back() {
            log::warn(&format!("give network device {} back: {err}", self.device.name));
        }
    }

    fn move_back(&self) -> Result<()> {
        let there = route_in(self.namespace.as_fd())?;
        let (index, _) = link(&there, &self.name)?.ok_or(Errno::ENODEV)?;
        let host = File::open("/proc/self/ns/net")?;
        let request = Message::new(RTM_NEWLINK, 0)
            .body(&link_header(index, 0))
            .text(IFLA_IFNAME, &self.device.name)
            .attribute(IFLA_NET_NS_FD, &host.as_raw_fd().to_ne_bytes());
        there
            .request(request)
            .map_err(|err| Error::from(err).or_doing(|| "move it back".into()))?;
        set_up(&Route::open()?, &self.device.name, &self.addresses, self.was_up)
    }
}

fn set_up(route: &Route, name: &str, addresses: &[Address], up: bool) -> Result<()> {
    let index = link(route, name)?.ok_or(Errno::ENODEV)?.0;
    for address in addresses {
        route.request(address.message(index)).map_err(|errno| {
            let what = format!("give {name} its address {address} back");
            let err = Error::sys(what, errno);
            match errno {
                Errno::EACCES => err.hint("IPv6 is disabled in the container, see its sysctls"),
                _ => err,
            }
        })?;
    }
    if up { bring_up(route, name, index) } else { Ok(()) }
}

/// A permanent address of global scope; others belong to where they were.
#[derive(Debug)]
struct Address {
    /// Family and length of the prefix.
    kind: [u8; 2],
    flags: u32,
    /// Attributes that are kept.
    kept: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Reads a message of type RTM_NEWADDR; `None` if it is not of the device or not to be kept.
    fn parse(body: &[u8], device: i32) -> Option<Self> {
        let (header, rest) = body.split_first_chunk::<8>()?;
        let [family, prefix, low_flags, scope, index @ ..] = *header;
        let of_flags = |(kind, value): (u16, &[u8])| match kind {
            IFA_FLAGS => Some(u32::from_ne_bytes(value.try_into().ok()?)),
            _ => None,
        };
        let flags = attributes(rest).find_map(of_flags).unwrap_or(low_flags.into());
        let permanent = flags & libc::IFA_F_PERMANENT != 0;
        if i32::from_ne_bytes(index) != device || !permanent || scope != libc::RT_SCOPE_UNIVERSE {
            return None;
        }
        let kept = attributes(rest).filter(|(kind, _)| KEPT.contains(kind));
        let kept = kept.map(|(kind, value)| (kind, value.to_vec())).collect();
        Some(Address { kind: [family, prefix], flags: flags & KEPT_FLAGS, kept })
    }

    /// The request that gives it to the device `index`.
    fn message(&self, index: i32) -> Message {
        let [family, prefix] = self.kind;
        let [a, b, c, d] = index.to_ne_bytes();
        let create = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        let message = Message::new(RTM_NEWADDR, create)
            .body(&[family, prefix, 0, libc::RT_SCOPE_UNIVERSE, a, b, c, d])
            .attribute(IFA_FLAGS, &self.flags.to_ne_bytes());
        self.kept.iter().fold(message, |message, (kind, value)| message.attribute(*kind, value))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.kept.first().map_or(&[][..], |(_, value)| value);
        if let Ok(bytes) = <[u8; 4]>::try_from(value) {
            std::net::Ipv4Addr::from(bytes).fmt(f)?;
        } else if let Ok(bytes) = <[u8; 16]>::try_from(value) {
            std::net::Ipv6Addr::from(bytes).fmt(f)?;
        }
        write!(f, "/{}", self.kind[1])
    }
}

/// `struct ifinfomsg`: family, type, index, flags, and the same as the mask of what is changed.
fn link_header(index: i32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// The index of the device `name`, and its flags; `None` if there is none.
fn link(route: &Route, name: &str) -> std::result::Result<Option<(i32, u32)>, Errno> {
    let request = Message::new(RTM_GETLINK, 0).body(&link_header(0, 0)).text(IFLA_IFNAME, name);
    let answers = match route.request(request) {
        Err(Errno::ENODEV) => return Ok(None),
        other => other?,
    };
    let header = answers.first().and_then(|body| body.first_chunk::<12>());
    let [_, _, _, _, a, b, c, d, flags @ ..] = *header.ok_or(Errno::EBADMSG)?;
    Ok(Some((i32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes(flags))))
}

fn addresses(route: &Route, device: i32) -> std::result::Result<Vec<Address>, Errno> {
    let request = Message::new(RTM_GETADDR, libc::NLM_F_DUMP as u16).body(&[0; 8]);
    let answers = route.request(request)?;
    Ok(answers.iter().filter_map(|body| Address::parse(body, device)).collect())
}

fn bring_up(there: &Route, name: &str, index: i32) -> Result<()> {
    let up = Message::new(RTM_NEWLINK, 0).body(&link_header(index, libc::IFF_UP as u32));
    there.request(up).map(drop).doing(|| format!("bring up {name}"))
}

/// Brings up the loopback device of the network namespace behind `target`.
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub fn loopback(target: BorrowedFd) -> Result<()> {
    let there = route_in(target)?;
    let (index, _) = link(&there, "lo")?.ok_or(Errno::ENODEV)?;
    bring_up(&there, "lo", index)
}

/// Whether `target` is the runtime's own network namespace.
fn is_own(target: BorrowedFd) -> Result<bool> {
    let (own, other) = (stat("/proc/self/ns/net")?, fstat(target)?);
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// A socket in the network namespace behind `target`: it stays there.
fn route_in(target: BorrowedFd) -> Result<Route> {
    let kind = *KINDS.iter().find(|kind| kind.flag == NEWNET).ok_or(Errno::EINVAL)?;
    let mut away = Excursion::default();
    away.leave(kind)?;
    namespaces::enter(target.as_fd(), kind)?;
    let route = Route::open();
    away.come_back()?;
    Ok(route?)
}
