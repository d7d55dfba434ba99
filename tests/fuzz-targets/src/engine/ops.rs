//! The disk, the resolver and the HTTP client: ops out, outcomes in.

use arbitrary::Unstructured;
use dunlin_core::metainfo::File;
use dunlin_core::op::FileStat;
use dunlin_core::{Op, OpError, OpErrorKind, OpId, Outcome};

use super::{Rig, address};

/// Ops that one fetch may bring, the connects and closes included.
const MAX_OPS: u32 = 10_000;

impl Rig {
    pub(super) fn take_ops(&mut self) {
        for n in 0.. {
            let Some(op) = self.engine.poll_op() else {
                return;
            };
            assert!(n < MAX_OPS, "ops without an end: {op:?}");
            match op {
                Op::TcpConnect { conn, .. } => self.conns.push(conn),
                Op::TcpClose { conn, .. } => self.conns.retain(|c| *c != conn),
                Op::Cancel { .. } => {}
                op => {
                    let id = op.id().expect("all others are answered");
                    let again = self.open.insert(id, op);
                    assert!(again.is_none(), "law 1: {id:?} is used twice");
                }
            }
        }
    }

    /// Everything goes well.
    pub(super) fn answer_all(&mut self) {
        while let Some((id, op)) = self.open.pop_first() {
            let outcome = good(op, 0);
            self.engine.handle_op(self.now, id, outcome);
        }
    }

    /// One op fails or goes well; sometimes an op is answered that there is not.
    pub(super) fn answer(&mut self, n: u8, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let how: u8 = u.arbitrary()?;
        if how == 255 {
            self.engine
                .handle_op(self.now, OpId(1 << 40), Outcome::Done);
            return Ok(());
        }
        let ids: Vec<OpId> = self.open.keys().copied().collect();
        let Some(id) = ids.get(usize::from(n) % ids.len().max(1)) else {
            return Ok(());
        };
        let Some(op) = self.open.remove(id) else {
            return Ok(());
        };
        let outcome = match (op, how % 8) {
            (Op::Http { .. }, 0..=4) => {
                let len = usize::from(u.arbitrary::<u8>()?).min(u.len());
                Outcome::Http {
                    status: 200,
                    body: u.bytes(len)?.to_vec(),
                }
            }
            (op, 0..=4) => good(op, how),
            (op, _) => failed(op, how),
        };
        self.engine.handle_op(self.now, *id, outcome);
        Ok(())
    }
}

/// The outcome of success; `how` varies it where there is something to vary.
fn good(op: Op, how: u8) -> Outcome {
    // With 4 the content is not what it should be.
    let byte = u8::from(how == 4);
    match op {
        Op::Bind { local, .. } => Outcome::Bound(local),
        Op::Resolve { .. } => Outcome::Resolved(vec![address(how).ip(), address(how >> 4).ip()]),
        Op::Http { .. } => Outcome::Http {
            status: 200,
            body: b"d8:intervali60e5:peers6:\x0a\x08\x00\x05\x17\x70e".to_vec(),
        },
        Op::Open { info, .. } => {
            let stat = |file: &File| {
                (how & 1 == 1).then_some(FileStat {
                    len: file.len,
                    mtime_ns: 5,
                    id: None,
                })
            };
            Outcome::Opened(info.files().iter().map(stat).collect())
        }
        Op::Flush { .. } => Outcome::Flushed(vec![None; 3]),
        Op::Read(mut job) => {
            job.blocks().iter_mut().for_each(|block| block.fill(byte));
            job.done()
        }
        Op::Write(mut job) => {
            job.feed();
            job.done()
        }
        Op::Hash(mut job) => {
            let content = vec![byte; job.len as usize];
            job.hasher().update(&content);
            job.done()
        }
        _ => Outcome::Done,
    }
}

fn failed(op: Op, how: u8) -> Outcome {
    let kinds = [
        OpErrorKind::Io,
        OpErrorKind::NoSpace,
        OpErrorKind::NotFound,
        OpErrorKind::TimedOut,
        OpErrorKind::Cancelled,
    ];
    op.fail(OpError {
        kind: kinds[usize::from(how >> 3) % 5],
        detail: "it failed".into(),
    })
}
