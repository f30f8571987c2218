//! Random worlds. `ARCP_SEEDS=FROM..TO` runs others than the usual ones.

use arcp_tests::generator::run;

#[test]
fn random_worlds_hold_every_invariant_and_come_to_rest() {
    let seeds = std::env::var("ARCP_SEEDS").ok();
    let (from, to) = seeds.as_deref().and_then(|s| s.split_once("..")).map_or((0, 60), |(from, to)| {
        (from.parse().expect("ARCP_SEEDS=FROM..TO"), to.parse().expect("ARCP_SEEDS=FROM..TO"))
    });
    let (mut jobs, mut resumes, mut frames, mut paced, mut answered) = (0, 0, 0, 0, 0);
    let (mut children, mut allowed, mut costs, mut interrupted) = (0, 0, 0, 0);
    for seed in from..to {
        eprintln!("seed {seed}");
        let ran = run(seed, 150);
        jobs += ran.jobs;
        resumes += ran.resumes;
        frames += ran.frames;
        paced += ran.paced;
        answered += ran.answered;
        children += ran.children;
        allowed += ran.allowed;
        costs += ran.costs;
        interrupted += ran.interrupted;
    }
    eprintln!("{jobs} jobs, {resumes} resumes, {frames} frames, {paced} waits for a reader, {answered} answers");
    eprintln!("{children} children, {allowed} operations allowed, {costs} costs, {interrupted} interrupts");
    assert!(children > 50 && allowed > 50 && costs > 50, "nobody did what needs authority");
    assert!(jobs > 10 && resumes > 10 && frames > 1000 && answered > 0 && interrupted > 0, "the worlds were empty");
}
