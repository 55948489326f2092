//! The course of a run: a cluster is founded, then everything goes wrong for a while with all invariants checked after each
//! step; then all is mended, and everything must come right in time.

use super::{Outcome, Run, dice::Dice, gossip, liveness, world::World};
use anyhow::Result;
use tokio::time::sleep;

/// Steps of the bad time.
const STEPS: u32 = 120;

/// Of a thousand steps, so many are the weather's; the others are the client's.
const WEATHER: u64 = 250;

/// Plays a run to its end.
pub(super) async fn play(run: Run) -> Result<Outcome> {
    let seed = run.seed;
    let mut world = World::new(run)?;
    world.found().await?;
    sleep(gossip::ROUND * 2).await;
    let violation = match trial(&mut world).await? {
        None => liveness::check(&mut world).await?,
        found => found,
    };
    let trace = world.trace.digest();
    Ok(Outcome { seed, trace, violation, tally: world.count() })
}

/// The bad time; what it broke.
async fn trial(world: &mut World) -> Result<Option<String>> {
    let mut dice = world.dice.fork();
    // Without a template there is nothing to ask for.
    for _ in 0..2 {
        let request = world.client.brings(&mut dice, &world.names())?;
        ask(world, &mut dice, request)?;
    }
    for step in 0..STEPS {
        let pause = if dice.permille(100) { dice.millis(500..3000) } else { dice.millis(1..300) };
        sleep(pause).await;
        world.trace.line(format_args!("step {step}"));
        if step > 10 && dice.permille(WEATHER) {
            world.strike().await?;
        } else {
            let request = world.client.think(&mut dice, &world.names())?;
            ask(world, &mut dice, request)?;
        }
        if let Some(violation) = world.check().await? {
            return Ok(Some(violation));
        }
    }
    Ok(None)
}

/// Somebody asks through a node that runs; perhaps twice at the same moment.
fn ask(world: &World, dice: &mut Dice, request: usize) -> Result<()> {
    let running = world.running();
    for _ in 0..=u64::from(dice.permille(100)) {
        let Some(node) = dice.pick(&running) else { return Ok(()) };
        tokio::spawn(world.client.clone().ask(request, world.door(*node)?, dice.fork()));
    }
    Ok(())
}
