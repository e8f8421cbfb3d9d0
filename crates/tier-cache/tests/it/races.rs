//! Schedules that a test must force: answers that are collected late, transactions that overlap.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tier_cache::{Clock, Login, Tiers};

use crate::support::{Basket, Cold, Service, eventually, on_both};

on_both!(an_answer_that_is_collected_late_is_judged_by_what_is_known_by_then);

/// Lets a future get as far as it can now.
async fn begin(mut future: std::pin::Pin<&mut impl Future>) {
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending(), "it needs I/O");
        Poll::Ready(())
    })
    .await;
}

async fn an_answer_that_is_collected_late_is_judged_by_what_is_known_by_then(cold: Cold) {
    let service = Service::without_redis(cold);
    let issued = service.node().await.login(Login::guest()).await.unwrap();
    let (token, id) = (issued.access, issued.session.id());
    let clock = Clock::manual();
    let node: Tiers<Basket> = Tiers::builder(service.config(), service.keys())
        .clock(clock.clone())
        .start()
        .await
        .unwrap();

    // The load is begun and lands, but nobody looks at the answer yet.
    let mut waiting = pin!(node.find(token.clone()));
    begin(waiting.as_mut()).await;
    let hot = || node.try_hot(&token.clone().into());
    eventually("the load lands", async || hot().is_some()).await;

    service.cold.sql(&format!(
        "UPDATE sessions SET is_active = false WHERE id = '{id}'"
    ));
    eventually("the node hears of it", async || {
        !matches!(hot(), Some(Ok(_)))
    })
    .await;
    // Past the bound since the load asked, with polls that succeeded meanwhile.
    clock.advance(Duration::from_secs(61));
    eventually("the node trusts its caches", async || {
        node.health().trusting
    })
    .await;
    waiting.await.expect_err("it was revoked long ago");
}
