//! Segments: how large they are, and how far they overlap.

use crate::{
    effect::{Audiences, SegmentSize},
    report::{
        USERS_MIN,
        markup::{Html, behind, card, note},
        plot::bar,
        words::{count, counted, percent},
    },
};
use std::collections::BTreeMap;

/// The most segments with a bar, and in the table of overlaps.
const BARS_MAX: usize = 20;
const OVERLAPS_MAX: usize = 8;

pub(super) fn section(of: &Audiences) -> Html {
    let mut to = Html::default();
    let large: Vec<&SegmentSize> = of.segments.iter().filter(|it| it.users >= USERS_MIN).collect();
    let title = match (&large[..], of.users) {
        ([], _) if of.segments.is_empty() => "No user is in a segment".to_owned(),
        ([], _) => format!("No segment has {USERS_MIN} users yet"),
        ([first, ..], users) => {
            format!("{} of users are in {}, the largest segment", percent(share(first.users, users)), first.segment)
        }
    };
    let mut rows = vec![["Segment", "Users", "Of all users"].map(str::to_owned).to_vec()];
    if !large.is_empty() {
        let most = large.first().map_or(1, |it| it.users).max(of.without).max(1) as f64;
        to.raw("<div class=\"bars\">");
        let without = [SegmentSize { segment: "in no segment".to_owned(), users: of.without }];
        for it in large.iter().copied().take(BARS_MAX).chain(&without) {
            let is_none = std::ptr::eq(it, &raw const without[0]);
            let share = percent(share(it.users, of.users));
            to.element("span", &[("class", &"name")], &it.segment);
            bar(&mut to, if is_none { "quiet" } else { "" }, it.users as f64 / most);
            to.element("span", &[("class", &"figure")], count(it.users));
            to.element("span", &[("class", &"share")], &share);
            rows.push(vec![it.segment.clone(), count(it.users), share]);
        }
        to.raw("</div>");
        overlaps(&mut to, of, &large);
        behind(&mut to, &rows);
    }
    let small = of.segments.len() - large.len();
    if small > 0 {
        let what = counted(small as u64, "segment");
        note(
            &mut to,
            format!("{what} with fewer than {USERS_MIN} users: their sizes are not shown, to protect the users."),
        );
    }
    if large.len() > BARS_MAX {
        note(&mut to, format!("And {} smaller segments.", large.len() - BARS_MAX));
    }
    if of.users_one_in > 1 {
        note(&mut to, format!("Counted over 1 user in {}.", count(of.users_one_in)));
    }
    let shown = if large.is_empty() { "" } else { "Users with at least one decision in the segment." };
    card("wide", "segments", &title, shown, &to)
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}

/// Of the users in the segment of a row, the share that is also in that of the column.
fn overlaps(to: &mut Html, of: &Audiences, large: &[&SegmentSize]) {
    let large = &large[..large.len().min(OVERLAPS_MAX)];
    if large.len() < 2 {
        return;
    }
    let pairs: BTreeMap<(&str, &str), u64> =
        of.overlaps.iter().map(|it| ((it.one.as_str(), it.other.as_str()), it.users)).collect();
    to.raw("<h3>Of the users in a row’s segment, how many are also in the column’s</h3>");
    to.raw("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Table\"><table class=\"matrix\"><thead><tr><td></td>");
    for it in large {
        to.element("th", &[("scope", &"col"), ("class", &"n")], &it.segment);
    }
    to.raw("</tr></thead><tbody>");
    for row in large {
        to.raw("<tr>").element("th", &[("scope", &"row"), ("class", &"name")], &row.segment);
        for column in large {
            if row.segment == column.segment {
                to.raw("<td class=\"n self\">·</td>");
                continue;
            }
            let (one, other) = (row.segment.as_str(), column.segment.as_str());
            let both = pairs.get(&(one, other)).or_else(|| pairs.get(&(other, one))).copied().unwrap_or(0);
            let share = share(both, row.users);
            // Five shades.
            let class = format!("n shade-{}", (share * 5.0).ceil().clamp(0.0, 5.0));
            to.element("td", &[("class", &class)], format!("{:.0} %", share * 100.0));
        }
        to.raw("</tr>");
    }
    to.raw("</tbody></table></div>");
}
