//! The load generator and the peer of the comparison with Redis. See ../README.md.
//!
//! ```text
//! bidders load lookup|get|enrich ADDRESS RATE SECONDS CONNECTIONS USERS   prints one line of JSON
//! bidders merge ADDRESS REDIS THREADS                                     the peer, until it is killed
//! ```

mod load;
mod merge;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["load", kind, address, rate, seconds, connections, users] => load::run(&load::Load {
            kind: kind.parse()?,
            address: address.to_owned(),
            rate: rate.parse()?,
            seconds: seconds.parse()?,
            connections: connections.parse()?,
            users: users.parse()?,
        }),
        ["merge", address, redis, threads] => merge::run(address, redis, threads.parse()?),
        _ => anyhow::bail!(
            "usage: bidders load KIND ADDRESS RATE SECONDS CONNECTIONS USERS | merge ADDRESS REDIS THREADS"
        ),
    }
}
