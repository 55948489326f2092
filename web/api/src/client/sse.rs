//! Reads server-sent events out of bytes as they come (WHATWG HTML, 9.2.6). Pure: it neither waits nor connects.

/// A frame longer than this is not one of ours; it is dropped, so that a broken peer cannot fill our memory.
const FRAME_MAX: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Frame {
    /// The last id the stream told, in this frame or before; empty if none.
    pub(super) id: String,
    /// Its name; `message` if none was told.
    pub(super) event: String,
    /// Its data.
    pub(super) data: String,
}

/// Takes bytes, however they were cut, and gives whole frames.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed right after it belongs to it.
    after_cr: bool,
    last_id: String,
    event: String,
    data: String,
    has_data: bool,
}

impl Parser {
    /// The id after which a stream is to be resumed; empty if none was told.
    pub(super) fn last_id(&self) -> &str {
        &self.last_id
    }

    /// Takes the next bytes; gives the frames they complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        for &byte in bytes {
            let ends = match byte {
                b'\n' if self.after_cr => {
                    self.after_cr = false;
                    continue;
                }
                b'\n' | b'\r' => true,
                _ => false,
            };
            self.after_cr = byte == b'\r';
            if ends {
                let line = std::mem::take(&mut self.line);
                frames.extend(self.line(&String::from_utf8_lossy(&line)));
            } else if self.line.len() < FRAME_MAX {
                self.line.push(byte);
            }
        }
        frames
    }

    fn line(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            return self.finish();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => value.clone_into(&mut self.last_id),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                if self.data.len() + value.len() <= FRAME_MAX {
                    self.data.push_str(value);
                }
            }
            // An empty field is a comment; `retry` and unknown fields are left aside.
            _ => {}
        }
        None
    }

    fn finish(&mut self) -> Option<Frame> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        let has_data = std::mem::take(&mut self.has_data);
        let event = if event.is_empty() { "message".to_owned() } else { event };
        has_data.then(|| Frame { id: self.last_id.clone(), event, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        ": hello\nid: 7.0\n\nevent: event\nid: 8.1\ndata: {\"a\":1}\ndata: x\n\r\ndata:y\r\rid\ndata\n\n";

    fn frame(id: &str, event: &str, data: &str) -> Frame {
        Frame { id: id.to_owned(), event: event.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut() {
        let expected = [frame("8.1", "event", "{\"a\":1}\nx"), frame("8.1", "message", "y"), frame("", "message", "")];
        for cut in 1..STREAM.len() {
            let mut parser = Parser::default();
            let frames: Vec<_> = STREAM.as_bytes().chunks(cut).flat_map(|chunk| parser.feed(chunk)).collect();
            assert_eq!(frames, expected, "in pieces of {cut}");
        }
    }

    #[test]
    fn an_id_alone_is_remembered() {
        let mut parser = Parser::default();
        assert!(parser.feed(b"id: 7.0\n\n").is_empty());
        assert_eq!(parser.last_id(), "7.0");
    }

    #[test]
    fn endless_lines_do_not_fill_the_memory() {
        let mut parser = Parser::default();
        for _ in 0..4 {
            parser.feed(&[b'x'; FRAME_MAX]);
        }
        assert!(parser.line.len() <= FRAME_MAX);
    }
}
