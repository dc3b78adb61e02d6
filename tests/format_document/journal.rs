//! Sections 5.2 to 5.4: the files of a journal, and their frames.

use super::records::{Meta, opened, u16_at, u32_at, u64_at};

pub(crate) struct Frame {
    pub(crate) number: u64,
    pub(crate) rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    end: usize,
}

pub(crate) struct Journal {
    pub(crate) frames: Vec<Frame>,
}

impl Journal {
    /// Section 5.4.
    pub(crate) fn read(file: &[u8], meta: &Meta) -> Result<Self, &'static str> {
        let (salt, start) = header(&file[..512], meta)
            .or_else(|| header(&file[4096..4608], meta))
            .ok_or("no header is whole")?;
        let mut frames: Vec<Frame> = Vec::new();
        let mut at = start;
        while let Some(frame) = Frame::at(file, at, salt) {
            if frames
                .last()
                .is_some_and(|before| frame.number != before.number + 1)
            {
                return Err("a frame has another number");
            }
            at = frame.end.next_multiple_of(512);
            frames.push(frame);
        }
        let mut behind = (at..file.len()).step_by(512).skip(1);
        if behind.any(|at| Frame::at(file, at, salt).is_some()) {
            return Err("a frame lies behind one that is not whole");
        }
        Ok(Self { frames })
    }
}

/// Section 5.2: the salt, and where the first frame begins; `None` where the copy is not whole.
pub(crate) fn header(sector: &[u8], meta: &Meta) -> Option<(u64, usize)> {
    let len = usize::from(u16_at(sector, 4));
    let mut payload =
        opened(6, b"header", sector.get(6..6 + len)?).filter(|_| &sector[..4] == b"CLOK")?;
    assert_eq!(payload.array(), meta.identity);
    assert_eq!(payload.array(), meta.opening);
    // Little-endian numbers of a fixed width stand outside records alone.
    let salt = payload.varint();
    payload.varint();
    // Section 9.
    let start = if payload.is_used_up() { 4096 } else { 8192 };
    if start == 8192 {
        payload.varint();
    }
    assert!(payload.is_used_up());
    assert!(sector[6 + len..].iter().all(|byte| *byte == 0));
    Some((salt, start))
}

impl Frame {
    /// Section 5.3: the whole frame at an offset.
    pub(crate) fn at(file: &[u8], at: usize, salt: u64) -> Option<Self> {
        let head = file.get(at..at + 24)?;
        if &head[..4] != b"CLOK" || u64_at(head, 8) != salt {
            return None;
        }
        let end = at + 24 + u32_at(head, 4) as usize;
        let mut payload = opened(5, &head[8..24], file.get(at + 24..end)?)?;
        let rows = payload.list(|payload| {
            let key = payload.long().to_vec();
            (key, payload.option(|payload| payload.long().to_vec()))
        });
        assert!(payload.is_used_up());
        Some(Self {
            number: u64_at(head, 16),
            rows,
            end,
        })
    }
}
