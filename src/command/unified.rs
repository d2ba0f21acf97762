//! Two texts as one: the lines that go and those that come, with a few that stay around them (the unified format).

use std::fmt::Write;

/// So many lines that stay are shown before and after those that change.
const CONTEXT: usize = 3;
/// Beyond so many pairs of lines no common ones are looked for between the first and the last change.
const MOST_PAIRS: usize = 4_000_000;

/// A line, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'t> {
    Stays(&'t str),
    Goes(&'t str),
    Comes(&'t str),
}

/// The hunks that lead from one text to the other; nothing if they are equal.
pub fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let lines = compare(&old, &new);
    let changed = |line: &Line<'_>| !matches!(line, Line::Stays(_));
    let mut text = String::new();
    let mut from = 0;
    while let Some(first) = lines.iter().skip(from).position(changed).map(|at| at + from) {
        let end = end_of_hunk(&lines, first);
        hunk(&mut text, &lines, first.saturating_sub(CONTEXT)..end);
        from = end;
    }
    text
}

/// Where the hunk ends that begins with this change: changes that are near one another are in one.
fn end_of_hunk(lines: &[Line<'_>], first: usize) -> usize {
    let mut last = first;
    for (at, line) in lines.iter().enumerate().skip(first) {
        match line {
            Line::Stays(_) if at - last > 2 * CONTEXT => break,
            Line::Stays(_) => {}
            _ => last = at,
        }
    }
    (last + CONTEXT + 1).min(lines.len())
}

fn hunk(text: &mut String, lines: &[Line<'_>], range: std::ops::Range<usize>) {
    let before = lines.get(..range.start).unwrap_or_default();
    let within = lines.get(range).unwrap_or_default();
    let in_old = |lines: &[Line<'_>]| lines.iter().filter(|line| !matches!(line, Line::Comes(_))).count();
    let in_new = |lines: &[Line<'_>]| lines.iter().filter(|line| !matches!(line, Line::Goes(_))).count();
    // A side without lines names the line before it.
    let place = |before: usize, count: usize| format!("{},{count}", before + usize::from(count > 0));
    let (old, new) = (place(in_old(before), in_old(within)), place(in_new(before), in_new(within)));
    _ = writeln!(text, "@@ -{old} +{new} @@");
    for line in within {
        _ = match line {
            Line::Stays(line) => writeln!(text, " {line}"),
            Line::Goes(line) => writeln!(text, "-{line}"),
            Line::Comes(line) => writeln!(text, "+{line}"),
        };
    }
}

fn compare<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<Line<'t>> {
    let head = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old_rest, new_rest) = (old.get(head..).unwrap_or_default(), new.get(head..).unwrap_or_default());
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(old, new)| old == new).count();
    let old_middle = old_rest.get(..old_rest.len() - tail).unwrap_or_default();
    let new_middle = new_rest.get(..new_rest.len() - tail).unwrap_or_default();
    let stays = |lines: &[&'t str]| lines.iter().map(|line| Line::Stays(line)).collect::<Vec<_>>();
    let mut lines = stays(old.get(..head).unwrap_or_default());
    lines.extend(middle(old_middle, new_middle));
    lines.extend(stays(old.get(old.len() - tail..).unwrap_or_default()));
    lines
}

/// By the longest common subsequence.
fn middle<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<Line<'t>> {
    if old.len().saturating_mul(new.len()) > MOST_PAIRS {
        return old.iter().map(|line| Line::Goes(line)).chain(new.iter().map(|line| Line::Comes(line))).collect();
    }
    let longest = longest(old, new);
    let of = |i: usize, j: usize| longest.get(i).and_then(|row| row.get(j)).copied().unwrap_or_default();
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    loop {
        match (old.get(i), new.get(j)) {
            (Some(goes), Some(comes)) if goes == comes => {
                lines.push(Line::Stays(goes));
                (i, j) = (i + 1, j + 1);
            }
            (Some(goes), comes) if comes.is_none() || of(i + 1, j) >= of(i, j + 1) => {
                lines.push(Line::Goes(goes));
                i += 1;
            }
            (_, Some(comes)) => {
                lines.push(Line::Comes(comes));
                j += 1;
            }
            _ => return lines,
        }
    }
}

/// How many lines are common from each pair of places on.
fn longest(old: &[&str], new: &[&str]) -> Vec<Vec<u32>> {
    let mut rows = vec![vec![0; new.len() + 1]];
    for line in old.iter().rev() {
        let below = rows.last().cloned().unwrap_or_default();
        let mut row = vec![0];
        for (j, other) in new.iter().enumerate().rev() {
            let at = |row: &[u32], j: usize| row.get(j).copied().unwrap_or_default();
            let right = row.last().copied().unwrap_or_default();
            row.push(if line == other { at(&below, j + 1) + 1 } else { at(&below, j).max(right) });
        }
        row.reverse();
        rows.push(row);
    }
    rows.reverse();
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_changes_is_shown_with_what_stays_around_it() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\n";
        let new = "a\nb\nc\nd\nE\nf\ng\nh\ni\nj\nk\nl\nm\nn\n";
        let expected = "@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n@@ -11,3 +11,4 @@\n k\n l\n m\n+n\n";
        assert_eq!(unified(old, new), expected);
        assert_eq!(unified(old, old), "");
        assert_eq!(unified("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(unified("a\n", ""), "@@ -1,1 +0,0 @@\n-a\n");
    }

    #[test]
    fn the_lines_of_each_side_are_those_of_its_text() {
        let mut random = Random(1);
        for _ in 0..500 {
            let (old, new) = (random.text(), random.text());
            let lines = compare(&old, &new);
            let side = |keep: fn(&Line<'_>) -> bool| {
                let text = |line: &Line<'_>| match line {
                    Line::Stays(text) | Line::Goes(text) | Line::Comes(text) => (*text).to_owned(),
                };
                lines.iter().filter(|line| keep(line)).map(text).collect::<Vec<_>>()
            };
            assert_eq!(side(|line| !matches!(line, Line::Comes(_))), old);
            assert_eq!(side(|line| !matches!(line, Line::Goes(_))), new);
        }
    }

    /// Enough to vary texts (xorshift).
    struct Random(u64);

    impl Random {
        fn text(&mut self) -> Vec<&'static str> {
            (0..self.below(12)).map(|_| *["a", "b", "c"].get(self.below(3)).unwrap()).collect()
        }

        fn below(&mut self, most: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % 1_000_003).unwrap() % most
        }
    }
}
