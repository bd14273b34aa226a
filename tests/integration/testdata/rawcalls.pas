program rawcalls;
{$linklib c}
uses sockets;
begin
  writeln('ran ', fpsocket(AF_INET, SOCK_STREAM, 0));
end.
