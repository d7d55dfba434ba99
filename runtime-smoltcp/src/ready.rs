//! The set of sockets that have become ready: one bit each, set by the wakers that the stack calls.

use alloc::{boxed::Box, sync::Arc, task::Wake, vec::Vec};
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::Waker;

/// The bits, which the wakers share.
struct Bits(Box<[AtomicU32]>);

/// A waker that sets one bit.
struct BitWaker {
    bits: Arc<Bits>,
    bit: usize,
}

impl Wake for BitWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(word) = self.bits.0.get(self.bit / 32) {
            word.fetch_or(1 << (self.bit % 32), Ordering::Relaxed);
        }
    }
}

/// The sockets that became ready and were not visited since.
pub(crate) struct Ready {
    bits: Arc<Bits>,
    wakers: Vec<Waker>,
}

impl Ready {
    /// Creates the set for `sockets` sockets.
    pub(crate) fn new(sockets: usize) -> Self {
        let words = (0..sockets.div_ceil(32)).map(|_| AtomicU32::new(0));
        let bits = Arc::new(Bits(words.collect()));
        let bell = |bit| {
            let bits = Arc::clone(&bits);
            Waker::from(Arc::new(BitWaker { bits, bit }))
        };
        let wakers = (0..sockets).map(bell).collect();
        Self { bits, wakers }
    }

    /// The waker of a socket.
    pub(crate) fn waker(&self, socket: usize) -> &Waker {
        // There is one waker for each socket, and there are never more sockets than announced.
        &self.wakers[socket]
    }

    /// Removes and returns the ready socket with the lowest number.
    pub(crate) fn pop(&self) -> Option<usize> {
        for (i, word) in self.bits.0.iter().enumerate() {
            let set = word.load(Ordering::Relaxed);
            if set != 0 {
                let bit = set.trailing_zeros();
                word.fetch_and(!(1 << bit), Ordering::Relaxed);
                return Some(i * 32 + bit as usize);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rang_comes_out_once_and_in_order() {
        let ready = Ready::new(70);
        for bit in [69, 3, 40, 3] {
            ready.waker(bit).wake_by_ref();
        }
        let order: Vec<usize> = core::iter::from_fn(|| ready.pop()).collect();
        assert_eq!(order, [3, 40, 69]);
    }
}
