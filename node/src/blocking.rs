//! Blocking work, off the async runtime.

use tokio::task::JoinHandle;

/// Runs `work` off the runtime; a panic in it goes on in the caller.
///
/// # Cancel safety
/// Dropping the future does not stop work that has begun.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work)).await
}

/// The value of a blocking task. A panic in it goes on here; a task that the ending runtime never
/// ran keeps its caller waiting, which ends with the runtime too unless it blocks a thread of its own.
pub(crate) async fn joined<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}
