//! Carries out each op, on one of the threads.

use std::{
    io::ErrorKind,
    sync::{Arc, atomic::Ordering},
};

use dunlin_core::{
    BLOCK_LEN, Block, Op, OpError, OpErrorKind, Outcome,
    op::{FileStat, HashJob, ReadJob, WriteJob},
};

use super::{
    access::Disk,
    common::Common,
    extras::Extras,
    files::Files,
    flush::Flush,
    transfer,
    work::{Job, Work},
};

/// Bytes read at a time for hashing. They fit into the second-level cache beside the data of the hash
/// function.
const HASH_RUN: usize = 256 * 1024;

/// Runs a job and returns its outcome, or `None` if there is nothing to report but that it is done. Buffers lent to it stay
/// in `job`, so that a panic cannot lose them.
pub(super) fn run(
    shared: &Common,
    job: &mut Job,
    opened: &mut Option<Arc<Files>>,
    scratch: &mut Vec<u8>,
) -> Result<Option<Outcome>, OpError> {
    #[cfg(test)]
    shared.faults.panic_if_armed();
    let op = match &mut job.work {
        Work::Task(_, task) => return Ok(task.take().map(|task| task())),
        Work::Op(op) => op,
    };
    if let Op::Open { torrent, info, .. } = op {
        let Some(placement) = &job.placement else {
            return Err(not_found("nobody said where the torrent goes"));
        };
        let before = job.files.as_deref();
        let restored = before.map_or(Ok(()), |files| files.write_again(&shared.handles));
        // Opening looks at files by their paths, so open handles are not reused.
        shared.handles.close_all(*torrent);
        shared.claims().give_up(*torrent);
        let many = shared.many.load(Ordering::Relaxed);
        restored?;
        #[cfg_attr(
            not(test),
            expect(unused_mut, reason = "a test takes the numbers of files away")
        )]
        let mut files = Files::open(*torrent, info, placement, before, many)?;
        #[cfg(test)]
        if shared.faults.no_ids.load(Ordering::Relaxed) {
            files.forget_ids();
        }
        let stats = files.ledger().report();
        *opened = Some(Arc::new(files));
        return Ok(Some(Outcome::Opened(stats)));
    }
    let Some(files) = &job.files else {
        return match op {
            Op::Release { .. } => Ok(None),
            _ => Err(not_found("the torrent is not open")),
        };
    };
    let disk = Disk { shared, files };
    let flush = Flush { shared, files };
    match op {
        Op::Read(job) => disk.read(job).map(|()| None),
        Op::Write(job) => disk.write(job).map(|()| None),
        Op::Hash(job) => disk.hash(job, scratch).map(|()| None),
        Op::Claim {
            whose, have, claim, ..
        } => disk.claim(whose, have, *claim).map(flushed),
        Op::Confirm { done, .. } => disk.confirm(*done).map(flushed),
        Op::Flush { durable: true, .. } => flush.run().map(flushed),
        Op::Flush { .. } => flush.look().map(flushed),
        Op::Select { wanted, .. } => disk.selection().select(wanted).map(|()| None),
        Op::Release { delete, .. } => disk.release(*delete).map(|()| None),
        _ => Err(OpError {
            kind: OpErrorKind::Unsupported,
            detail: "not an op for the disk".into(),
        }),
    }
}

fn flushed(files: Vec<Option<FileStat>>) -> Option<Outcome> {
    Some(Outcome::Flushed(files))
}

fn not_found(what: &str) -> OpError {
    OpError {
        kind: OpErrorKind::NotFound,
        detail: what.into(),
    }
}

/// Fills the blocks of `job` from the page cache. Returns `false` if a file is not open or the device would be needed.
pub(super) fn read_cached(shared: &Common, files: &Files, job: &mut ReadJob) -> bool {
    let (at, len, blocks) = (job.at, job.len, job.blocks());
    if shared.no_cached_reads.load(Ordering::Relaxed) || check_blocks(len, blocks).is_err() {
        return false;
    }
    let disk = Disk { shared, files };
    let mut all = true;
    let done = disk.each(at, len.into(), |extent, from| {
        all = all
            && match files.place(extent) {
                None => {
                    transfer::zero(blocks, from, extent.len as usize);
                    true
                }
                Some(place) => {
                    let key = (files.torrent, place.file);
                    shared.handles.cached(key, false).is_some_and(|handle| {
                        let len = extent.len as usize;
                        transfer::read_cached(&handle.file, blocks, from, len, place.offset)
                            .inspect_err(|e| {
                                let never = e.kind() == ErrorKind::Unsupported;
                                shared.no_cached_reads.fetch_or(never, Ordering::Relaxed);
                            })
                            .is_ok()
                    })
                }
            };
        Ok(())
    });
    all && done.is_ok()
}

impl Disk<'_> {
    pub(super) const fn extras(&self) -> Extras<'_> {
        Extras {
            shared: self.shared,
            files: self.files,
        }
    }

    fn write(&self, job: &mut WriteJob) -> Result<(), OpError> {
        check_blocks(job.len, job.blocks())?;
        job.feed();
        let (at, len, blocks) = (job.at, job.len, job.blocks());
        let (files, handles) = (self.files, &self.shared.handles);
        if !files.written.load(Ordering::Acquire) {
            // Created with the first bytes, not with the last: when a torrent is reported complete, all of
            // its files have to exist.
            self.extras().make_empty_files();
        }
        self.each(at, len.into(), |extent, from| {
            let Some(place) = files.place(extent) else {
                return Ok(());
            };
            let handle = files.writable(handles, place.file);
            self.with(place.file, handle, |file| {
                files.check_reach(place.file, file)?;
                let _system = files.hold_system(place.file, file);
                let done = transfer::write(file, blocks, from, extent.len as usize, place.offset);
                // Marked after the write, also if it failed half-way: a concurrent flush that clears the
                // mark before this line has seen these bytes.
                files.soil_piece(place.file, at);
                if done.is_ok() {
                    files.reached(place.file, place.offset + extent.len);
                }
                done
            })
        })
    }

    fn read(&self, job: &mut ReadJob) -> Result<(), OpError> {
        let (at, len, blocks) = (job.at, job.len, job.blocks());
        check_blocks(len, blocks)?;
        let (files, handles) = (self.files, &self.shared.handles);
        self.each(at, len.into(), |extent, from| {
            let Some(place) = files.place(extent) else {
                transfer::zero(blocks, from, extent.len as usize);
                return Ok(());
            };
            let handle = files.readable(handles, place.file);
            self.with(place.file, handle, |file| {
                transfer::read(file, blocks, from, extent.len as usize, place.offset)
            })
        })
    }

    fn hash(&self, job: &mut HashJob, scratch: &mut Vec<u8>) -> Result<(), OpError> {
        let (at, len, hasher) = (job.at, job.len, job.hasher());
        scratch.resize(HASH_RUN, 0);
        let (files, handles) = (self.files, &self.shared.handles);
        self.each(at, len, |extent, _| {
            let place = files.place(extent);
            let mut done = 0;
            while done < extent.len {
                let buf = &mut scratch[..(extent.len - done).min(HASH_RUN as u64) as usize];
                match &place {
                    None => buf.fill(0),
                    Some(place) => {
                        let handle = files.readable(handles, place.file);
                        self.with(place.file, handle, |file| {
                            transfer::read_exact(file, buf, place.offset + done)
                        })?;
                    }
                }
                hasher.update(buf);
                done += buf.len() as u64;
            }
            Ok(())
        })
    }

    fn release(&self, delete: bool) -> Result<(), OpError> {
        self.shared.handles.close_all(self.files.torrent);
        let done = match delete {
            true => self.delete(),
            false => Ok(()),
        };
        self.shared.claims().give_up(self.files.torrent);
        done
    }
}

fn check_blocks(len: u32, blocks: &[Block]) -> Result<(), OpError> {
    if blocks.len() * BLOCK_LEN < len as usize {
        return Err(OpError {
            kind: OpErrorKind::Io,
            detail: "fewer blocks than bytes".into(),
        });
    }
    Ok(())
}
