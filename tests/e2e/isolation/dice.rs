//! What probes are drawn from.

use super::GNSS;

/// A small generator (xorshift): the same probes in each run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }
}

/// Names that lead elsewhere, or nowhere.
pub const NAMES: [&str; 12] = [
    "red.internal",
    "blue.internal",
    "cart.blue.internal.red.internal",
    "cart.red.internal.blue.internal",
    "nobody.red.internal",
    "nobody.blue.internal",
    "web.shop.internal",
    "shop.example.com",
    "red.example.com",
    "blue.example.com",
    "localhost",
    "xred.internal",
];

/// It leads out at the top, and is refused whoever asks.
pub const ABOVE: &str = "/%2e%2e/%2e%2e/etc";

pub const PATHS: [&str; 8] = [
    "/",
    "/a//b/../c",
    ABOVE,
    "/?host=cart.blue.internal",
    "//cart.blue.internal/",
    "/.tombolo/report",
    "/a;b=c/d",
    "/http://pay.blue.internal/",
];

/// What a gateway would say of a request in a tunnel, and what it must not.
pub fn metadata(dice: &mut Dice) -> Vec<(&'static str, String)> {
    let gns = dice.pick(&GNSS);
    let other = dice.pick(&GNSS);
    let sources = [
        format!("spiffe://{gns}.demo.internal/cluster/north/ns/{gns}/svc/cart"),
        format!("spiffe://{gns}.demo.internal/cluster/north/ns/{gns}/svc/pay"),
        format!("spiffe://{gns}.demo.internal/cluster/south/ns/{gns}/svc/cart"),
        format!("spiffe://{gns}.demo.internal/cluster/north/gateway/gw-a"),
        format!("spiffe://{gns}.demo.internal.{other}/cluster/north/ns/{gns}/svc/cart"),
        "cart".to_owned(),
        String::new(),
    ];
    let mut said = vec![
        ("tombolo-cluster", (*dice.pick(&["south", "south", "south", "south", "north"])).to_owned()),
        ("tombolo-service", (*dice.pick(&["cart", "pay", "cart", "pay", "pay", "web", ""])).to_owned()),
        ("tombolo-port", (*dice.pick(&["8080", "8080", "8080", "8080", "x"])).to_owned()),
    ];
    if dice.roll(4) > 0 {
        said.push(("tombolo-source", dice.pick(&sources).clone()));
    }
    said
}
