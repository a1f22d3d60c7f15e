import sys; sys.path.insert(0,'/work/h/deep')
import cProfile,pstats,time,tempfile
import benchmarks.loops as L
from parity.watching import watch
name=sys.argv[1]; n=int(sys.argv[2])
_,make,comp=L.LOOPS[name]
loop=make(comp)
with watch(tempfile.mkdtemp(dir='/tmp/deepw')+'/run',*loop.watched,deep=n+3,shadows=0) as run:
    step=loop.update(run)
    for _ in range(3): step()
    pr=cProfile.Profile(time.thread_time); pr.enable()
    for _ in range(n): step()
    pr.disable()
    pstats.Stats(pr).sort_stats('tottime').print_stats(28)
