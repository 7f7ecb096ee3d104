//! Scratch.
use sock_diag::*; use std::ops::ControlFlow; use std::time::Instant;
fn main(){ 
  let mut b=RecvBuffer::new();
  let rest = StateSet::ALL.minus(StateSet::LISTEN).minus(StateSet::BOUND_INACTIVE);
  for _ in 0..5 { for (n,s) in [("listen",StateSet::LISTEN),("bound",StateSet::BOUND_INACTIVE),("all-bound",StateSet::ALL.minus(StateSet::BOUND_INACTIVE)),("rest",rest),("all",StateSet::ALL)] {
    let mut k=Kernel::open().unwrap(); let t=Instant::now(); let mut sum=0u64;
    let d=dump(&mut k,&DumpRequest::all(Protocol::Tcp).states(s),&mut b,|m|{let r=m.to_record(); sum+=r.id.cookie.0; ControlFlow::Continue(())}).unwrap();
    print!("{n} {:.2}ms {} | ",t.elapsed().as_secs_f64()*1e3,d.records); }
  println!(); }
}
