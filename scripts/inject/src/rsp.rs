//! The client side of GDB's remote serial protocol, limited to the requests that injections need (GDB manual, appendix
//! E).
//!
//! No maintained package implements the client side: `gdbstub` and `gdbstub_arch` implement the target's side, and
//! `gdb-protocol` (0.1.0) implements only packets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::error::InjectError;

/// A connection to QEMU's gdbstub.
pub struct Rsp {
    stream: UnixStream,
    /// Received bytes that are not parsed yet.
    received: Vec<u8>,
    /// The thread to which the requests `g`, `P`, `m` and `M` apply.
    selected: Option<usize>,
}

/// The reason why the machine stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// This CPU hit a breakpoint or completed its single step.
    Cpu(usize),
    /// QEMU exited.
    Ended,
}

impl Rsp {
    /// Creates a client on a connection.
    pub fn new(stream: UnixStream) -> Rsp {
        Rsp { stream, received: Vec::new(), selected: None }
    }

    /// Reads the target description, as debuggers do. QEMU 7.2 rejects register writes before it has been read.
    pub fn greet(&mut self) -> Result<(), InjectError> {
        self.send("qXfer:features:read:target.xml:0,ffb")?;
        self.receive().map(drop)
    }

    /// Resumes CPUs with a `vCont` action, and waits until the machine stops.
    pub fn resume(&mut self, action: &str) -> Result<Stop, InjectError> {
        let reply = match self.send(&format!("vCont;{action}")).and_then(|()| self.receive()) {
            // QEMU may exit without a reply.
            Err(InjectError::Closed) => return Ok(Stop::Ended),
            reply => text(reply?)?,
        };
        if reply.starts_with(['W', 'X']) {
            return Ok(Stop::Ended);
        }
        let thread =
            reply.strip_prefix("T05").and_then(|rest| rest.split("thread:").nth(1)?.split(';').next());
        let thread = thread.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let thread = thread.filter(|&thread| thread > 0).ok_or_else(|| unexpected("vCont", &reply))?;
        Ok(Stop::Cpu(thread - 1))
    }

    /// Detaches, which resumes all CPUs permanently.
    pub fn detach(mut self) -> Result<(), InjectError> {
        self.done("D")
    }

    /// Sets a hardware breakpoint on an instruction, for all CPUs.
    pub fn insert(&mut self, address: u64) -> Result<(), InjectError> {
        self.done(&format!("Z1,{address:x},1"))
    }

    /// Removes a breakpoint.
    pub fn remove(&mut self, address: u64) -> Result<(), InjectError> {
        self.done(&format!("z1,{address:x},1"))
    }

    /// Reads all registers of a CPU, in QEMU's layout.
    pub fn registers(&mut self, cpu: usize) -> Result<Vec<u8>, InjectError> {
        self.select(cpu)?;
        self.bytes("g")
    }

    /// Writes one register, by its number in QEMU's target description.
    pub fn write_register(&mut self, cpu: usize, number: usize, value: &[u8]) -> Result<(), InjectError> {
        self.select(cpu)?;
        self.done(&format!("P{number:x}={}", hex(value)))
    }

    /// Reads memory through the page tables of this CPU.
    pub fn read(&mut self, cpu: usize, address: u64, length: usize) -> Result<Vec<u8>, InjectError> {
        self.select(cpu)?;
        let bytes = self.bytes(&format!("m{address:x},{length:x}"))?;
        if bytes.len() == length { Ok(bytes) } else { Err(unexpected("m", "fewer bytes than requested")) }
    }

    /// Writes memory, even if the page is read-only.
    pub fn write(&mut self, cpu: usize, address: u64, bytes: &[u8]) -> Result<(), InjectError> {
        self.select(cpu)?;
        self.done(&format!("M{address:x},{:x}:{}", bytes.len(), hex(bytes)))
    }

    fn select(&mut self, cpu: usize) -> Result<(), InjectError> {
        if self.selected == Some(cpu) {
            return Ok(());
        }
        self.selected = None;
        self.done(&format!("Hg{:x}", cpu + 1))?;
        self.selected = Some(cpu);
        Ok(())
    }

    /// Sends a request whose reply must be `OK`.
    fn done(&mut self, packet: &str) -> Result<(), InjectError> {
        self.send(packet)?;
        let reply = text(self.receive()?)?;
        if reply == "OK" { Ok(()) } else { Err(unexpected(packet, &reply)) }
    }

    /// Sends a request whose reply is bytes. The bytes of a register that cannot be read are returned as 0.
    fn bytes(&mut self, packet: &str) -> Result<Vec<u8>, InjectError> {
        self.send(packet)?;
        let reply = text(self.receive()?)?;
        let digit = |byte: u8| if byte == b'x' { Some(0) } else { char::from(byte).to_digit(16) };
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
            _ => None,
        };
        reply.as_bytes().chunks(2).map(pair).collect::<Option<_>>().ok_or_else(|| unexpected(packet, &reply))
    }

    fn send(&mut self, packet: &str) -> Result<(), InjectError> {
        // A local socket loses no data, so retransmission is not needed.
        let packet = format!("${packet}#{:02x}", checksum(packet.as_bytes()));
        self.stream.write_all(packet.as_bytes()).map_err(InjectError::from_io)
    }

    fn receive(&mut self) -> Result<Vec<u8>, InjectError> {
        loop {
            if let Some((payload, sum, end)) = first_packet(&self.received) {
                if checksum(payload) != sum {
                    return Err(unexpected("a packet", "a wrong checksum"));
                }
                let payload = expand(payload);
                self.received.drain(..end);
                self.stream.write_all(b"+").map_err(InjectError::from_io)?;
                return Ok(payload);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes).map_err(InjectError::from_io)? {
                0 => return Err(InjectError::Closed),
                count => self.received.extend(&bytes[..count]),
            }
        }
    }
}

/// Returns the first complete packet: its payload, its checksum, and the offset of its end. Skips acknowledgements
/// before the packet.
fn first_packet(received: &[u8]) -> Option<(&[u8], u8, usize)> {
    let start = received.iter().position(|&byte| byte == b'$')? + 1;
    let end = start + received[start..].iter().position(|&byte| byte == b'#')?;
    let sum = str::from_utf8(received.get(end + 1..end + 3)?).ok()?;
    Some((&received[start..end], u8::from_str_radix(sum, 16).unwrap_or(0), end + 3))
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

/// Expands run-length encoding: the byte after `*`, minus 29, says how many more times the byte before `*` occurs.
fn expand(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = payload.iter();
    while let Some(&byte) = rest.next() {
        match (byte, bytes.last().copied()) {
            (b'*', Some(last)) => {
                let count = rest.next().map_or(0, |count| count.saturating_sub(29));
                bytes.extend(std::iter::repeat_n(last, count.into()));
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(bytes: Vec<u8>) -> Result<String, InjectError> {
    String::from_utf8(bytes).map_err(|_| unexpected("a packet", "bytes that are not UTF-8"))
}

fn unexpected(packet: &str, reply: &str) -> InjectError {
    InjectError::Protocol { asked: packet.to_owned(), reply: reply.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_is_found_after_acknowledgements_once_complete() {
        assert_eq!(first_packet(b"+$OK#9a+"), Some((b"OK".as_slice(), 0x9a, 7)));
        for part in [b"+".as_slice(), b"$OK", b"$OK#", b"$OK#9"] {
            assert_eq!(first_packet(part), None);
        }
        assert_eq!(checksum(b"OK"), 0x9a);
    }

    #[test]
    fn run_length_encoding_is_expanded() {
        assert_eq!(expand(b"0* 1"), b"00001");
        assert_eq!(expand(b"T05"), b"T05");
    }

    #[test]
    fn replies_of_a_gdbstub_are_parsed() {
        let (ours, mut theirs) = UnixStream::pair().expect("cannot create a socket pair");
        let mut rsp = Rsp::new(ours);
        for reply in ["T05thread:02;", "OK", "0a0b", "E14", "W21"] {
            let packet = format!("+${reply}#{:02x}", checksum(reply.as_bytes()));
            theirs.write_all(packet.as_bytes()).expect("cannot send");
        }
        assert_eq!(rsp.resume("c").expect("the CPU must stop"), Stop::Cpu(1));
        assert_eq!(rsp.read(1, 0x10, 2).expect("cannot read memory"), [10, 11]);
        assert!(matches!(rsp.insert(7), Err(InjectError::Protocol { reply, .. }) if reply == "E14"));
        assert_eq!(rsp.resume("c").expect("the CPU must stop"), Stop::Ended);
        theirs.write_all(b"$OK#00").expect("cannot send");
        assert!(rsp.insert(7).is_err(), "a wrong checksum");
        drop(theirs);
        assert_eq!(rsp.resume("c").expect("the CPU must stop"), Stop::Ended);
    }
}
