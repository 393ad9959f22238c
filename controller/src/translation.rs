//! The translation, away from the threads that serve.

use std::{sync::Arc, time::Instant};

use controller_core::{Memo, Settings, Snapshot, Translation};

/// Translates with what `memo` holds of the last translation. Nothing, and a line in the log, if it panics: its memo is lost
/// then, and the next translation starts from cold.
pub(crate) async fn translate(
    memo: &mut Memo,
    snapshot: Arc<Snapshot>,
    settings: Arc<Settings>,
) -> Option<Translation> {
    let start = Instant::now();
    let mut taken = std::mem::take(memo);
    let translated = tokio::task::spawn_blocking(move || (taken.translate(&snapshot, &settings), taken)).await;
    metrics::histogram!("controller_translation_seconds").record(start.elapsed());
    match translated {
        Ok((translation, taken)) => {
            *memo = taken;
            Some(translation)
        }
        Err(panic) => {
            tracing::error!("this change is not applied, since the translation failed: {panic}");
            None
        }
    }
}
