//! The order by which a certificate was issued, in the first line of the file that keeps it.

use config::wire::Order;

const PREFIX: &str = "order: ";

/// The line, with its end.
pub(super) fn line(order: &Order) -> String {
    let root = if order.root.is_empty() { "-" } else { &order.root };
    format!("{PREFIX}{root} {} {}\n", order.issuing, order.leaf)
}

/// What the first line says. A file without such a line is of an order that nobody gives: its certificate serves until
/// its successor is there, which is asked for at once.
pub(super) fn read(text: &str) -> Order {
    text.lines().next().and_then(parse).unwrap_or_default()
}

fn parse(line: &str) -> Option<Order> {
    let mut words = line.strip_prefix(PREFIX)?.split(' ');
    let root = words.next().filter(|root| *root != "-").unwrap_or_default().to_owned();
    Some(Order { root, issuing: words.next()?.parse().ok()?, leaf: words.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written_and_its_absence_is_none() {
        for order in [Order { root: "ab".into(), issuing: 3, leaf: 7 }, Order::default()] {
            assert_eq!(read(&format!("{}-----BEGIN", line(&order))), order);
        }
        for other in ["", "roots: ab\n", "order: ab 1\n", "order: ab 1 x\n"] {
            assert_eq!(read(other), Order::default(), "{other}");
        }
    }
}
