use kube_tcpstates::{filter::*, kernel::*};
fn main() {
    let hook = std::env::args().nth(1).map(|h| h.parse().unwrap());
    let t = std::time::Instant::now();
    let mut l = match load(Options{hook, ring_bytes: 8<<20, want_on_cpu: true, follow_cgroups: false}) { Ok(l)=>l, Err(e)=>{println!("{e} {e:?}"); return} };
    println!("loaded {:?} {:?}", t.elapsed(), l.storage);
    let c = compile([(0, &TraceFilter::default())]).unwrap();
    println!("gen {}", l.rules.swap(&c).unwrap());
    l.attach().unwrap();
    println!("attached {:?} accept {} cg {} dump {:?}", t.elapsed(), l.accept_owner, l.cgroup_events, l.dump);
    let mut r = l.rings.take().unwrap();
    let end = std::time::Instant::now()+std::time::Duration::from_secs(3);
    let w = r.waker(); std::thread::spawn(move || { std::thread::sleep(std::time::Duration::from_secs(3)); w.wake(); });
    while std::time::Instant::now()<end {
        let n = r.drain_events(|e| println!("{e:?}"));
        r.drain_cgroups(|c| println!("{c:?}"));
        r.wait(n>0, |r| r.drain_events(|e| println!("{e:?}"))>0).unwrap();
    }
    l.detach();
    println!("{:?}", l.counters.snapshot());
}
