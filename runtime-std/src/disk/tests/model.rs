//! Compares the disk with a model in memory.

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

/// A layout and the operations on it.
#[derive(Clone, Debug)]
struct Story {
    piece_len: u32,
    files: Vec<(u16, u8)>,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write {
        piece: u8,
        begin: u16,
        len: u16,
        byte: u8,
    },
    Select(u32),
    Flush,
    Reopen,
}

impl Arbitrary for Story {
    fn arbitrary(g: &mut Gen) -> Self {
        let files = (0..1 + u8::arbitrary(g) % 6)
            .map(|_| (u16::arbitrary(g), u8::arbitrary(g)))
            .collect();
        let steps = (0..u8::arbitrary(g) % 24)
            .map(|_| match u8::arbitrary(g) % 10 {
                0 => Step::Select(u32::arbitrary(g)),
                1 => Step::Flush,
                2 => Step::Reopen,
                _ => Step::Write {
                    piece: u8::arbitrary(g),
                    begin: u16::arbitrary(g),
                    len: u16::arbitrary(g),
                    byte: u8::arbitrary(g) | 1,
                },
            })
            .collect();
        Self {
            piece_len: *g.choose(&[16_384, 20_000, 65_536]).unwrap(),
            files,
            steps,
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let story = self.clone();
        let fewer = (0..self.steps.len()).map(move |i| {
            let mut story = story.clone();
            story.steps.remove(i);
            story
        });
        Box::new(fewer)
    }
}

impl Story {
    fn info(&self) -> Option<Arc<Info>> {
        let name = |i: usize, kind: u8| match kind % 5 {
            0 => "*".to_owned(),
            1 => format!("d/{i}"),
            _ => format!("{i}"),
        };
        let named: Vec<_> = self
            .files
            .iter()
            .enumerate()
            .map(|(i, (len, kind))| (name(i, *kind), u64::from(*len)))
            .collect();
        let files: Vec<_> = named.iter().map(|(n, l)| (n.as_str(), *l)).collect();
        let total: u64 = files.iter().map(|f| f.1).sum();
        (total > 0).then(|| info(self.piece_len, &files))
    }
}

quickcheck! {
    /// Whatever was written is read back, after selections, flushes and restarts.
    fn what_was_written_reads_back(story: Story) -> bool {
        let Some(info) = story.info() else { return true };
        let mut b = Bench::new(Arc::clone(&info));
        // `None`: never written, so any value is right.
        let mut model: Vec<Option<u8>> = vec![None; info.total_len() as usize];
        for file in info.files().iter().filter(|f| f.kind == FileKind::Padding) {
            model[file.offset as usize..(file.offset + file.len) as usize].fill(Some(0));
        }
        let mut wanted = vec![true; info.files().len()];
        for step in &story.steps {
            match *step {
                Step::Write { piece, begin, len, byte } => {
                    let piece = u32::from(piece) % info.piece_count();
                    let size = info.piece_size(piece);
                    let begin = u32::from(begin) % size;
                    let len = u32::from(len).min(size - begin).max(1);
                    let at = info.piece_offset(piece) + u64::from(begin);
                    let data = vec![byte; len as usize];
                    b.write(at, &data).unwrap();
                    for e in info.extents(at, len.into()) {
                        let file = &info.files()[e.file];
                        if file.kind == FileKind::Regular {
                            let from = (file.offset + e.offset) as usize;
                            model[from..from + e.len as usize].fill(Some(byte));
                        }
                    }
                }
                Step::Select(bits) => {
                    wanted = (0..wanted.len()).map(|i| bits >> i & 1 == 1).collect();
                    b.select(&wanted);
                }
                Step::Flush => drop(b.flush().unwrap()),
                Step::Reopen => {
                    b.reopen();
                    b.select(&wanted);
                }
            }
        }
        let mut at = 0;
        while at < model.len() {
            let run = model[at..].iter().take_while(|m| m.is_some() == model[at].is_some()).count();
            let rest_of_piece = story.piece_len as usize - at % story.piece_len as usize;
            let run = run.min(rest_of_piece);
            if model[at].is_some() {
                let expected: Vec<u8> = model[at..at + run].iter().map(|m| m.unwrap()).collect();
                if b.read(at as u64, run) != Ok(expected) {
                    return false;
                }
            }
            at += run;
        }

        b.release(true);

        fs::read_dir(b.dir.path().join("save")).map_or(0, Iterator::count) == 0
    }
}
