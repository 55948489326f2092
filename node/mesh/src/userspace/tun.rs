//! The TUN device: packets in and out of the host's network stack, large ones whole.
//!
//! The device is persistent, so that routes through it outlive this process, and has segmentation offload both ways: the
//! kernel hands over up to 64 KiB of one TCP stream at once, and takes as much.

use std::io;

use tun_rs::{AsyncDevice, DeviceBuilder, GROTable, VIRTIO_NET_HDR_LEN};

use crate::config::Interface;
use crate::packet::DATA_OVERHEAD;

/// Packets that one read may be cut into: 64 KiB in the 536 bytes that a TCP must be able to receive (RFC 9293) are 123.
const SEGMENTS: usize = 128;

/// Packets collected before they are written: what one received batch holds at most, twice.
const WRITES: usize = 128;

/// Bytes before each packet that is written: the offload header goes there.
const HEADROOM: usize = VIRTIO_NET_HDR_LEN;

/// `EBADFD`, by which a TUN descriptor says that its interface was deleted.
const GONE: i32 = nix::libc::EBADFD;

/// Opens the device, making it if it lacks. Must be called on the runtime that reads.
pub(super) fn open(interface: &Interface) -> io::Result<AsyncDevice> {
    let device = DeviceBuilder::new()
        .name(&interface.name)
        .with(|options| {
            options.offload(true).multi_queue(true).packet_information(false);
        })
        // The host side (link up, MTU, routes) is `crate::host`'s, the same for the kernel's interface.
        .inherit_enable_state()
        .build_async()?;
    device.persist()?;
    Ok(device)
}

/// Whether the device will never work again.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(GONE)
}

/// Room for one read.
pub(super) struct Reads {
    whole: Vec<u8>,
    packets: Vec<Vec<u8>>,
    sizes: Vec<usize>,
    count: usize,
}

impl Reads {
    pub(super) fn new(mtu: u16) -> Self {
        // An interface whose MTU somebody raised by hand still gets its packets through up to 2 KiB.
        let room = usize::from(mtu).max(2048);
        Self {
            whole: vec![0; VIRTIO_NET_HDR_LEN + usize::from(u16::MAX)],
            packets: vec![vec![0; room]; SEGMENTS],
            sizes: vec![0; SEGMENTS],
            count: 0,
        }
    }

    /// Waits for packets.
    pub(super) async fn read(&mut self, tun: &AsyncDevice) -> io::Result<()> {
        self.count = 0;
        self.count = tun.recv_multiple(&mut self.whole, &mut self.packets, &mut self.sizes, 0).await?;
        Ok(())
    }

    /// Those that are there already.
    pub(super) fn try_read(&mut self, tun: &AsyncDevice) -> io::Result<()> {
        self.count = 0;
        self.count = tun.try_recv_multiple(&mut self.whole, &mut self.packets, &mut self.sizes, 0)?;
        Ok(())
    }

    pub(super) fn packets(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.packets[..self.count].iter().zip(&self.sizes).map(|(packet, size)| &packet[..*size])
    }
}

/// Packets that wait to be written together. Neighbours in one TCP stream become one large packet.
pub(super) struct Writes {
    packets: Vec<Vec<u8>>,
    used: usize,
    merged: GROTable,
}

impl Writes {
    pub(super) fn new() -> Self {
        Self {
            // Capacity for a whole merged packet each; memory that is never written is never there.
            packets: (0..WRITES).map(|_| Vec::with_capacity(2 * HEADROOM + usize::from(u16::MAX))).collect(),
            used: 0,
            merged: GROTable::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.used == self.packets.len()
    }

    /// Room for a message of `length` bytes to be decrypted into; it counts only when it is [kept](Self::keep).
    pub(super) fn room(&mut self, length: usize) -> &mut [u8] {
        let packet = &mut self.packets[self.used];
        // Without wiping what is there: it is overwritten.
        packet.resize(HEADROOM + length.max(DATA_OVERHEAD), 0);
        &mut packet[HEADROOM..]
    }

    /// The first `length` bytes of the room are a packet to be written.
    pub(super) fn keep(&mut self, length: usize) {
        self.packets[self.used].truncate(HEADROOM + length);
        self.used += 1;
    }

    /// Writes them.
    ///
    /// # Errors
    /// The device is gone. A packet that the kernel does not want is dropped.
    pub(super) async fn flush(&mut self, tun: &AsyncDevice) -> io::Result<()> {
        if self.used == 0 {
            return Ok(());
        }
        let written = tun.send_multiple(&mut self.merged, &mut self.packets[..self.used], HEADROOM).await;
        self.used = 0;
        match written {
            Err(error) if is_gone(&error) => Err(error),
            // EIO while the link is down; EINVAL for a packet that it finds malformed.
            Err(error) => {
                tracing::debug!(%error, "packets not written");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}
