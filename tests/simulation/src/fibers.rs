//! The engine's threads as coroutines of one operating-system thread: exactly one runs, until it pauses.
//!
//! Deliberately absent: who runs next, which `World` decides.
#![allow(unsafe_code)] // the running coroutine is found through a thread-local pointer, since ports get no context

use std::cell::{Cell, RefCell};
use std::ptr;
use std::time::Duration;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

/// Bytes of a fiber's stack; touched pages only are taken.
const STACK_BYTES: usize = 1 << 20;

type Yields = Yielder<(), Duration>;

thread_local! {
    static CURRENT: Cell<*const Yields> = const { Cell::new(ptr::null()) };
    /// Stacks of fibers that have ended.
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

/// A thread of the engine.
pub(crate) struct Fiber {
    /// `None` once it has ended.
    coroutine: Option<Coroutine<(), Duration, (), DefaultStack>>,
}

impl Fiber {
    pub(crate) fn new(body: impl FnOnce() + 'static) -> Self {
        let stack = STACKS.with_borrow_mut(Vec::pop);
        let stack = stack
            .unwrap_or_else(|| DefaultStack::new(STACK_BYTES).expect("memory for another stack"));
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yields, ()| {
            CURRENT.set(yielder);
            body();
        });
        Self { coroutine: Some(coroutine) }
    }

    /// Runs until the next pause, and says for how long that is at most; `None`: it has ended.
    pub(crate) fn resume(&mut self) -> Option<Duration> {
        let coroutine = self.coroutine.as_mut()?;
        let result = coroutine.resume(());
        CURRENT.set(ptr::null());
        match result {
            CoroutineResult::Yield(pause) => Some(pause),
            CoroutineResult::Return(()) => {
                let ended = self.coroutine.take();
                let stack = ended.map(Coroutine::into_stack);
                STACKS.with_borrow_mut(|stacks| stacks.extend(stack));
                None
            }
        }
    }
}

impl Drop for Fiber {
    /// One that is still in a call cannot be unwound, since the engine catches panics: its stack is left alone.
    fn drop(&mut self) {
        std::mem::forget(self.coroutine.take());
    }
}

/// Gives the turn away for at most `timeout`; outside of fibers, and where a panic unwinds one, nothing happens.
pub(crate) fn pause(timeout: Duration) {
    let yielder = CURRENT.get();
    if yielder.is_null() || std::thread::panicking() {
        return;
    }
    // SAFETY: not null means that the fiber which set it runs now, on this thread; its yielder lives as long as its body.
    unsafe { (*yielder).suspend(timeout) };
    CURRENT.set(yielder);
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn fibers_take_turns_at_their_pauses() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let fiber = |name: &'static str| {
            let seen = seen.clone();
            Fiber::new(move || {
                for turn in 0..2 {
                    seen.borrow_mut().push((name, turn));
                    pause(Duration::from_millis(turn));
                }
            })
        };
        let (mut one, mut two) = (fiber("one"), fiber("two"));
        assert_eq!(one.resume(), Some(Duration::ZERO));
        assert_eq!(two.resume(), Some(Duration::ZERO));
        assert_eq!(one.resume(), Some(Duration::from_millis(1)));
        assert_eq!(one.resume(), None);
        assert_eq!(*seen.borrow(), [("one", 0), ("two", 0), ("one", 1)]);
    }
}
