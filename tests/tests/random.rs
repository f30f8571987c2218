//! Random worlds. `ARCP_SEEDS=FROM..TO` runs other seeds than the usual ones.

use std::collections::BTreeMap;

use arcp_tests::artifact_log::Fetched;
use arcp_tests::generator::checkpoints::Came as Checkpoints;
use arcp_tests::generator::run;
use arcp_tests::ledger::Authority;
use arcp_tests::stream_log::Streamed;

#[test]
fn random_worlds_hold_every_invariant_and_come_to_rest() {
    let seeds = std::env::var("ARCP_SEEDS").ok();
    let (from, to) = seeds.as_deref().and_then(|s| s.split_once("..")).map_or((0, 90), |(from, to)| {
        (from.parse().expect("ARCP_SEEDS=FROM..TO"), to.parse().expect("ARCP_SEEDS=FROM..TO"))
    });
    let (mut jobs, mut resumes, mut frames, mut paced, mut answered) = (0, 0, 0, 0, 0);
    let (mut children, mut deferred, mut allowed, mut costs, mut interrupted) = (0, 0, 0, 0, 0);
    let (mut refused_again, mut provisioned, mut rotated, mut gone, mut done) = (0, 0, 0, 0, Authority::default());
    let mut steps = 0;
    let mut streamed = Streamed::default();
    let (mut schedules, mut fired) = (0, 0);
    let mut artifacts = Fetched::default();
    let (mut checkpoints, mut exchanged) = (Checkpoints::default(), 0);
    for seed in from..to {
        eprintln!("seed {seed}");
        let ran = run(seed, 150);
        jobs += ran.jobs;
        resumes += ran.resumes;
        frames += ran.frames;
        paced += ran.paced;
        answered += ran.answered;
        children += ran.children;
        deferred += ran.deferred;
        allowed += ran.allowed;
        costs += ran.costs;
        interrupted += ran.interrupted;
        refused_again += ran.refused_again;
        provisioned += ran.provisioned;
        rotated += ran.rotated;
        gone += ran.gone;
        steps += ran.steps;
        schedules += ran.scheduled.kept;
        fired += ran.scheduled.fired;
        add_streamed(&mut streamed, ran.streamed);
        add_fetched(&mut artifacts, ran.fetched);
        let Checkpoints { made, restored, resumed } = ran.checkpoints.came;
        checkpoints.made += made;
        checkpoints.restored += restored;
        checkpoints.resumed += resumed;
        exchanged += ran.tokens.exchanged;
        add(&mut done, ran.authority);
    }
    eprintln!("{jobs} jobs, {resumes} resumes, {frames} frames, {paced} waits for a reader, {answered} answers");
    eprintln!(
        "{children} children, {deferred} times one waited for the host, {allowed} operations allowed, {costs} costs, {interrupted} interrupts"
    );
    eprintln!("{gone} jobs sent away, {steps} steps of workflows, {streamed:?}");
    eprintln!("{schedules} schedules, {fired} of their times had jobs, {artifacts:?}");
    eprintln!("{checkpoints:?}, {exchanged} tokens exchanged");
    eprintln!(
        "{refused_again} late answers, {provisioned} orders of credentials, {rotated} of them rotations, {done:?}"
    );
    // Most are in `schedule_worlds`.
    assert!(schedules > 5 && fired > 10, "{schedules} schedules, {fired} firings");
    let Fetched { kept, forgotten, shown, to_watchers, results } = artifacts;
    assert!(kept > 200 && forgotten > 100 && shown > 20 && to_watchers > 0 && results > 20, "{artifacts:?}");
    assert!(steps > 100, "{steps} steps of workflows have succeeded");
    let Streamed { chunks, closed, failed, inbound, shed } = streamed;
    assert!(chunks > 1000 && closed > 20 && failed > 3 && inbound > 10 && shed > 5, "{streamed:?}");
    // `checkpoint_worlds` has many, of tokens and resumes at checkpoints too.
    let Checkpoints { made, restored, resumed: _ } = checkpoints;
    assert!(made > 3 && restored > 0, "{checkpoints:?}");
    let ended = |reason: &str| done.ended.get(reason).copied().unwrap_or(0);
    assert!(done.extended > 0 && ended("no more") > 0 && ended("expired") > 0 && ended("used") > 0, "{done:?}");
    assert!(done.elevated > 0 && done.allowed_elevated > 0 && done.handed_over > 10 && done.raised > 3, "{done:?}");
    assert!(rotated > 10, "{rotated} rotations");
    assert!(gone > 3, "{gone} jobs went to another runtime");
    assert!(refused_again > 10 && provisioned > 50, "{refused_again} late answers, {provisioned} orders");
    assert!(deferred > 3, "{deferred} times a child waited for the host");
    assert!(children > 50 && allowed > 50 && costs > 50, "nobody did what needs authority");
    assert!(jobs > 10 && resumes > 10 && frames > 1000 && answered > 0 && interrupted > 0, "the worlds were empty");
}

fn add_streamed(all: &mut Streamed, ran: Streamed) {
    let Streamed { chunks, closed, failed, inbound, shed } = ran;
    all.chunks += chunks;
    all.closed += closed;
    all.failed += failed;
    all.inbound += inbound;
    all.shed += shed;
}

fn add_fetched(all: &mut Fetched, ran: Fetched) {
    let Fetched { kept, forgotten, shown, to_watchers, results } = ran;
    all.kept += kept;
    all.forgotten += forgotten;
    all.shown += shown;
    all.to_watchers += to_watchers;
    all.results += results;
}

fn add(all: &mut Authority, ran: Authority) {
    let Authority { granted, elevated, raised, extended, ended, handed_over, allowed_elevated } = ran;
    all.granted += granted;
    all.elevated += elevated;
    all.raised += raised;
    all.extended += extended;
    all.handed_over += handed_over;
    all.allowed_elevated += allowed_elevated;
    let count = |ended: &mut BTreeMap<String, usize>, (reason, n)| *ended.entry(reason).or_default() += n;
    ended.into_iter().for_each(|each| count(&mut all.ended, each));
}
