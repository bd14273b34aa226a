# terminal.py new|shared PROGRAM...: runs PROGRAM as process 1 of a PID namespace, in a new session with a terminal of its own, or in
# one that began outside; types ^C and ^Z, and prints what it hears.
import os, pty, re, subprocess, sys, time
how, argv = sys.argv[1], sys.argv[2:]
ns = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
if how == "new":
    child = os.fork() # which leads no process group
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.setsid()
    master, slave = pty.openpty()
    p = subprocess.Popen(ns + ["setsid", "-c"] + argv, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    pid = p.pid
else:
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(ns[0], ns + argv)
heard = b""
def hear(what):
    global heard
    while not re.search(what, heard):
        heard += os.read(master, 1000)
hear(b"ready")
os.write(master, b"word\n")
hear(b"read word")
os.write(master, b"\x03")
hear(b"signal 2")
if how == "new":
    os.write(master, b"\x1a") # nobody could let it go on: it does, or is not stopped
time.sleep(0.3)
os.write(master, b"\x03")
hear(b"(?s)signal 2.*signal 2.*end")
print(sorted(re.findall(rb"signal \d+", heard)))
