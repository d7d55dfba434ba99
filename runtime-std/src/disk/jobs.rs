//! Carries out each op, on one of the threads.

use std::{
    io::ErrorKind,
    sync::{Arc, atomic::Ordering},
};

use dunlin_core::{BLOCK_LEN, Block, Hasher, Op, OpError, OpErrorKind, Outcome};

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

/// Runs a job. Blocks stay in `job` until it is over, so a panic cannot lose them.
pub(super) fn run(
    shared: &Common,
    job: &mut Job,
    opened: &mut Option<Arc<Files>>,
    scratch: &mut Vec<u8>,
) -> Outcome {
    #[cfg(test)]
    shared.faults.panic_if_armed();
    let op = match &mut job.work {
        Work::Task(_, task) => {
            return task.take().map_or(Outcome::Done, |task| task());
        }
        Work::Op(op) => op,
    };
    if let Op::Open { torrent, info, .. } = op {
        let Some(placement) = &job.placement else {
            return Outcome::failed(OpErrorKind::NotFound, "nobody said where the torrent goes");
        };
        let before = job.files.as_deref();
        let restored = before.map_or(Ok(()), |files| files.write_again(&shared.handles));
        // Opening looks at files by their paths, so open handles are not reused.
        shared.handles.close_all(*torrent);
        shared.claims().give_up(*torrent);
        let many = shared.many.load(Ordering::Relaxed);
        let open = || Files::open(*torrent, info, placement, before, many);
        return match restored.and_then(|()| open()) {
            #[cfg(test)]
            Ok(mut files) if shared.faults.no_ids.load(Ordering::Relaxed) => {
                files.forget_ids();
                let stats = files.ledger().report();
                *opened = Some(Arc::new(files));
                Outcome::Opened(stats)
            }
            Ok(files) => {
                let stats = files.ledger().report();
                *opened = Some(Arc::new(files));
                Outcome::Opened(stats)
            }
            Err(error) => failed(error),
        };
    }
    let Some(files) = &job.files else {
        if let Op::Release { .. } = op {
            return Outcome::Done;
        }
        return job
            .work
            .fail(OpErrorKind::NotFound, "the torrent is not open");
    };
    let disk = Disk { shared, files };
    let flush = Flush { shared, files };
    let done = match op {
        Op::Read {
            at, len, blocks, ..
        } => disk
            .read(*at, *len, blocks)
            .map(|()| Outcome::Read(std::mem::take(blocks))),
        Op::Write {
            at,
            len,
            blocks,
            hasher,
            ..
        } => disk
            .write(*at, *len, blocks, hasher.as_mut())
            .map(|()| Outcome::Written {
                blocks: std::mem::take(blocks),
                hasher: hasher.take(),
            }),
        Op::Hash {
            at, len, hasher, ..
        } => disk
            .hash(*at, *len, hasher, scratch)
            .map(|()| Outcome::Hashed(std::mem::replace(hasher, Hasher::sha1()))),
        Op::Claim {
            whose, have, claim, ..
        } => disk.claim(whose, have, *claim).map(Outcome::Flushed),
        Op::Confirm { done, .. } => disk.confirm(*done).map(Outcome::Flushed),
        Op::Flush { durable: true, .. } => flush.run().map(Outcome::Flushed),
        Op::Flush { .. } => flush.look().map(Outcome::Flushed),
        Op::Select { wanted, .. } => disk.selection().select(wanted).map(|()| Outcome::Done),
        Op::Release { delete, .. } => disk.release(*delete).map(|()| Outcome::Done),
        _ => return Outcome::failed(OpErrorKind::Unsupported, "not an op for the disk"),
    };
    done.unwrap_or_else(|error| job.work.fail(error.kind, error.detail))
}

/// Fills `blocks` from the page cache. Returns `false` if a file is not open or the device would be needed.
pub(super) fn read_cached(
    shared: &Common,
    files: &Files,
    at: u64,
    len: u32,
    blocks: &mut [Block],
) -> bool {
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

fn failed(error: OpError) -> Outcome {
    Outcome::Failed {
        error,
        blocks: Vec::new(),
    }
}

impl Disk<'_> {
    pub(super) const fn extras(&self) -> Extras<'_> {
        Extras {
            shared: self.shared,
            files: self.files,
        }
    }

    fn write(
        &self,
        at: u64,
        len: u32,
        blocks: &[Block],
        hasher: Option<&mut Hasher>,
    ) -> Result<(), OpError> {
        check_blocks(len, blocks)?;
        if let Some(hasher) = hasher {
            transfer::feed(hasher, blocks, len as usize);
        }
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

    fn read(&self, at: u64, len: u32, blocks: &mut [Block]) -> Result<(), OpError> {
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

    fn hash(
        &self,
        at: u64,
        len: u64,
        hasher: &mut Hasher,
        scratch: &mut Vec<u8>,
    ) -> Result<(), OpError> {
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
