//! Listing schedules: a principal's own, or everybody's for operators and auditors.

use alloc::vec::Vec;

use super::{DEFAULT_PAGE, LARGEST_PAGE};
use crate::error::Violation;
use crate::id::{LogPos, Principal, WireId};
use crate::model::feature::Feature;
use crate::model::schedule::{SchedulePage, ScheduleQuery, ScheduleSummary};
use crate::runtime::authority;
use crate::runtime::context::Context;
use crate::runtime::schedule::Schedules;
use crate::runtime::session::Session;

/// A requested page of schedules.
#[derive(Debug)]
pub(in crate::runtime) struct ScheduleListing {
    request: WireId,
    of: Whose,
    limit: usize,
}

/// Whose schedules are listed, and after which one the page begins.
#[derive(Debug)]
enum Whose {
    Own(Principal, Option<WireId>),
    Everybodys(Option<LogPos>),
}

impl ScheduleListing {
    /// The page that a session requests.
    ///
    /// # Errors
    ///
    /// If the session may not list, or the query is invalid.
    pub(in crate::runtime) fn new(
        ctx: &Context,
        session: &Session,
        request: WireId,
        query: ScheduleQuery,
    ) -> Result<ScheduleListing, Violation> {
        if !session.view().features.has(Feature::Schedules) {
            let why = "listing schedules needs the feature `scheduled_jobs`, which was not negotiated";
            return Err(Violation::invalid(why));
        }
        let limit = query.limit.unwrap_or(DEFAULT_PAGE);
        let within = (1..=LARGEST_PAGE).contains(&limit);
        let limit = usize::try_from(limit).ok().filter(|_| within);
        let limit = limit.ok_or_else(|| Violation::invalid("`limit` must be 1 to 1000"))?;
        let of = match query.everybody {
            false => Whose::Own(session.principal().clone(), query.after),
            true => {
                authority::may_list_sessions(&ctx.config, session.principal())?;
                let unknown = |_| Violation::invalid("`after` is not what a page of everybody's schedules ends with");
                let after = query.after.map(|after| after.as_str().parse().map(LogPos)).transpose();
                Whose::Everybodys(after.map_err(unknown)?)
            }
        };
        Ok(ScheduleListing { request, of, limit })
    }

    /// Bytes it holds, approximately.
    pub(super) fn weight(&self) -> usize {
        match &self.of {
            Whose::Own(_, after) => after.as_ref().map_or(0, |after| after.as_str().len()),
            Whose::Everybodys(_) => 0,
        }
    }

    /// Makes the page, as of now.
    pub(super) fn page(&self, ctx: &Context, schedules: &Schedules) -> SchedulePage {
        match &self.of {
            Whose::Own(principal, after) => {
                let own = schedules.own_after(principal, after.as_ref());
                self.filled(ctx, own, |(_, last)| Some(last.id.clone()))
            }
            Whose::Everybodys(after) => {
                self.filled(ctx, schedules.all_after(*after), |(at, _)| WireId::new(&alloc::format!("{}", at.0)))
            }
        }
    }

    fn filled(
        &self,
        ctx: &Context,
        all: impl Iterator<Item = (LogPos, ScheduleSummary)>,
        cursor: impl Fn(&(LogPos, ScheduleSummary)) -> Option<WireId>,
    ) -> SchedulePage {
        let page_bytes = ctx.config.limits.frame.result_frame_bytes / 2;
        let (mut found, mut bytes, mut next) = (Vec::<ScheduleSummary>::new(), 0, None);
        let mut last = None;
        for entry in all {
            if found.len() == self.limit || bytes >= page_bytes {
                next = last;
                break;
            }
            bytes += entry.1.weight();
            last = cursor(&entry);
            found.push(entry.1);
        }
        SchedulePage { request: Some(self.request.clone()), schedules: found, next }
    }
}
