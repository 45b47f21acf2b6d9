//! A TUN device: what the kernel sends through it is read here, and what is written here it receives.
//!
//! The only unsafe code there is: nothing but an ioctl makes such a device, and no crate that has it in a safe wrapper
//! is as small as this.
#![allow(unsafe_code, reason = "an ioctl that no dependency wraps")]

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
};

use rustix::ioctl::{Opcode, Updater, ioctl};

/// From linux/if_tun.h, which has had them since Linux 2.4.
const TUNSETIFF: Opcode = 0x4004_54CA;
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;

/// `struct ifreq`: what is asked for, and the name that it got.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    /// The kernel reads and writes the whole of its union.
    rest: [u8; 22],
}

/// Gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Tun {
    file: File,
    name: String,
}

impl Tun {
    /// Makes one, which the kernel names. It may be moved to another network namespace.
    pub(crate) fn new() -> io::Result<Self> {
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        let mut request = Request { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
        // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, 40 bytes at most, which `Request` is; it lives longer
        // than the call, and every pattern of bits is a valid one.
        unsafe { ioctl(&file, Updater::<TUNSETIFF, Request>::new(&mut request))? };
        let name = request.name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Self { name: String::from_utf8_lossy(name).into_owned(), file })
    }

    /// What the kernel called it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits for a packet; its length.
    pub(crate) fn receive(&self, packet: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(packet)
    }

    /// Gives the kernel a packet.
    pub(crate) fn send(&self, packet: &[u8]) -> io::Result<usize> {
        (&self.file).write(packet)
    }
}
