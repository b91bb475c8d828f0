import asyncio,sys,time,uvloop
sys.path.insert(0,'/tmp/evg')
from gateway.upstream import EngineAddress, UpstreamLimits
from gateway.upstream.client import Upstream
class Srv(asyncio.Protocol):
    def connection_made(self,t): self.t=t
async def main():
    loop=asyncio.get_running_loop()
    import subprocess
    p=await asyncio.create_subprocess_exec(sys.executable,"-c","import socket,sys\ns=socket.socket();s.bind(('127.0.0.1',0));s.listen(4096);print(s.getsockname()[1],flush=True)\nL=[]\nwhile 1: L.append(s.accept())",stdout=subprocess.PIPE)
    port=int(await p.stdout.readline())
    up=Upstream(EngineAddress(host="127.0.0.1",port=port),UpstreamLimits())
    async def viacall():
        c=up.start(path="/v1/x",body=b"{}",request_id="0"*32)
        return await c._connect(up)
    for name,f in (("pool.connect",up.pool.connect),("call._connect",viacall)):
        for r in range(3):
            t=time.process_time()
            cs=await asyncio.gather(*(f() for _ in range(100)))
            print(name,round((time.process_time()-t)/100*1e6,1),"us each")
    async def raw():
        return await loop.create_connection(Srv,"127.0.0.1",port)
    for r in range(3):
        t=time.process_time(); cs=await asyncio.gather(*(raw() for _ in range(100))); print("raw create_connection",round((time.process_time()-t)/100*1e6,1))
    import socket
    async def raw2():
        s=socket.socket(); s.setblocking(False)
        e=s.connect_ex(("127.0.0.1",port))
        return await loop.create_connection(Srv,sock=s)
    for r in range(3):
        t=time.process_time(); cs=await asyncio.gather(*(raw2() for _ in range(100))); print("sock",round((time.process_time()-t)/100*1e6,1))
    p.kill()
uvloop.run(main())
