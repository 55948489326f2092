//! A guest in memory: a second TCP stack that opens connections to the one under test, and a wire between them.
//!
//! Stands alone (smoltcp and tokio only), so that the bench can use it too.

use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{self, DeviceCapabilities, Medium},
    socket::tcp,
    time::Instant,
    wire::{HardwareAddress, IpAddress, IpCidr},
};
use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, mpsc},
};

type Packets = mpsc::Sender<Vec<u8>>;

/// Delivers what the stack under test sends to whom it is for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire {
    ends: Arc<Mutex<HashMap<Ipv4Addr, Packets>>>,
}

impl Wire {
    /// Starts delivering.
    pub(crate) fn new(mut from_stack: mpsc::Receiver<Vec<u8>>) -> Self {
        let wire = Self::default();
        let ends = wire.ends.clone();
        tokio::spawn(async move {
            while let Some(packet) = from_stack.recv().await {
                let to = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[16..20]).unwrap());
                let end = ends.lock().unwrap().get(&to).cloned();
                if let Some(end) = end {
                    let _ = end.send(packet).await;
                }
            }
        });
        wire
    }

    /// What is sent to this address from now on.
    pub(crate) fn attach(&self, address: Ipv4Addr) -> mpsc::Receiver<Vec<u8>> {
        let (tx, rx) = mpsc::channel(1024);
        self.ends.lock().unwrap().insert(address, tx);
        rx
    }
}

struct Phy {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

struct In(Vec<u8>);
struct Out<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut bytes = vec![0; length];
        let result = write(&mut bytes);
        self.0.push_back(bytes);
        result
    }
}

impl phy::Device for Phy {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;
    fn receive(&mut self, _: Instant) -> Option<(In, Out<'_>)> {
        self.incoming.pop_front().map(|packet| (In(packet), Out(&mut self.outgoing)))
    }
    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        Some(Out(&mut self.outgoing))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1420;
        capabilities
    }
}

struct Inner {
    interface: Interface,
    phy: Phy,
    sockets: SocketSet<'static>,
    gone: Vec<SocketHandle>,
}

/// A guest with its own TCP stack.
#[derive(Clone)]
pub(crate) struct Guest {
    inner: Arc<Mutex<Inner>>,
    rang: Arc<Notify>,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guest")
    }
}

impl Guest {
    /// Plugs a guest in.
    pub(crate) fn new(address: Ipv4Addr, wire: &Wire, to_stack: Packets) -> Self {
        let mut from_stack = wire.attach(address);
        let mut phy = Phy { incoming: VecDeque::new(), outgoing: VecDeque::new() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = u64::from(address.to_bits());
        let mut interface = Interface::new(config, &mut phy, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv4(address), 0)).unwrap();
        });
        let inner = Inner { interface, phy, sockets: SocketSet::new(vec![]), gone: vec![] };
        let guest = Self { inner: Arc::new(Mutex::new(inner)), rang: Arc::default() };
        let (inner, rang) = (guest.inner.clone(), guest.rang.clone());
        let started = tokio::time::Instant::now();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            loop {
                let (outgoing, delay) = {
                    let now = Instant::from_micros(started.elapsed().as_micros() as i64);
                    let mut inner = inner.lock().unwrap();
                    let Inner { interface, phy, sockets, gone } = &mut *inner;
                    interface.poll(now, phy, sockets);
                    gone.retain(|handle| {
                        let over = !sockets.get::<tcp::Socket<'_>>(*handle).is_open();
                        if over {
                            sockets.remove(*handle);
                        }
                        !over
                    });
                    let delay = interface.poll_delay(now, sockets).map(|delay| delay.total_micros());
                    (std::mem::take(&mut phy.outgoing), delay.unwrap_or(3_600_000_000))
                };
                for packet in outgoing {
                    if to_stack.send(packet).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    taken = from_stack.recv_many(&mut batch, 64) => {
                        if taken == 0 {
                            return;
                        }
                        inner.lock().unwrap().phy.incoming.extend(batch.drain(..));
                    }
                    () = rang.notified() => {}
                    () = tokio::time::sleep(Duration::from_micros(delay)) => {}
                }
            }
        });
        guest
    }

    /// Opens a connection; fails if it is refused.
    pub(crate) async fn connect(&self, port: u16, to: SocketAddrV4) -> io::Result<Flow> {
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let handle = {
            let mut inner = self.inner.lock().unwrap();
            let to = (IpAddress::Ipv4(*to.ip()), to.port());
            socket.connect(inner.interface.context(), to, port).map_err(io::Error::other)?;
            inner.sockets.add(socket)
        };
        self.rang.notify_one();
        let flow = Flow { guest: self.clone(), handle };
        std::future::poll_fn(|cx| {
            flow.with(|socket| {
                if socket.may_send() {
                    return Poll::Ready(Ok(()));
                }
                if !socket.is_open() {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionRefused)));
                }
                socket.register_send_waker(cx.waker());
                Poll::Pending
            })
        })
        .await?;
        Ok(flow)
    }
}

fn buffer() -> tcp::SocketBuffer<'static> {
    tcp::SocketBuffer::new(vec![0; 65_536])
}

/// A guest's connection.
#[derive(Debug)]
pub(crate) struct Flow {
    guest: Guest,
    handle: SocketHandle,
}

impl Flow {
    fn with<R>(&self, act: impl FnOnce(&mut tcp::Socket<'static>) -> R) -> R {
        let result = act(self.guest.inner.lock().unwrap().sockets.get_mut(self.handle));
        self.guest.rang.notify_one();
        result
    }
}

impl AsyncRead for Flow {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| match socket.recv_slice(buffer.initialize_unfilled()) {
            Ok(0) => {
                socket.register_recv_waker(cx.waker());
                Poll::Pending
            }
            Ok(read) => {
                buffer.advance(read);
                Poll::Ready(Ok(()))
            }
            Err(tcp::RecvError::Finished) => Poll::Ready(Ok(())),
            Err(_) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        })
    }
}

impl AsyncWrite for Flow {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|socket| match socket.send_slice(bytes) {
            Ok(0) => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            Ok(written) => Poll::Ready(Ok(written)),
            Err(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        })
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(tcp::Socket::close);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.with(tcp::Socket::close);
        self.guest.inner.lock().unwrap().gone.push(self.handle);
    }
}
