{ fetch ADDRESS PORT MARKER: gets /fixed?MARKER by HTTP and prints what it is. }
program fetch;
{$mode objfpc}{$H+}
uses sockets, sysutils;
var
  fd: longint;
  n: int64;
  at: TInetSockAddr;
  ask, got: string;
  part: array[0..4095] of char;
begin
  fd := fpsocket(AF_INET, SOCK_STREAM, 0);
  at.sin_family := AF_INET;
  at.sin_port := htons(StrToInt(ParamStr(2)));
  at.sin_addr := StrToNetAddr(ParamStr(1));
  if fpconnect(fd, @at, sizeof(at)) <> 0 then begin
    writeln(StdErr, 'connect: errno ', socketerror);
    halt(1);
  end;
  ask := 'GET /fixed?' + ParamStr(3) + ' HTTP/1.0' + #13#10#13#10;
  fpsend(fd, @ask[1], length(ask), 0);
  got := '';
  repeat
    n := fprecv(fd, @part, sizeof(part), 0);
    if n > 0 then got := got + Copy(part, 1, n);
  until n <= 0;
  write(Copy(got, Pos(#13#10#13#10, got) + 4, length(got)));
end.
