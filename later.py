import sys; sys.path.insert(0,'/work/h/deep')
import cProfile,pstats,time,tempfile
import benchmarks.loops as L
from parity.watching import watch
name=sys.argv[1]; n=int(sys.argv[2]); deep=int(sys.argv[3])
make=L.LOOPS[name][1]
loop=make()
with watch(tempfile.mkdtemp()+'/run',*loop.watched,deep=deep,shadows=0) as run:
    step=loop.update(run)
    for _ in range(5): step()
    pr=cProfile.Profile(time.thread_time); pr.enable()
    for _ in range(n): step()
    pr.disable()
    pstats.Stats(pr).sort_stats('tottime').print_stats('parity|copy|deepcopy',30)
