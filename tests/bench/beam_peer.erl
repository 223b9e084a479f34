%% The BEAM's side of every comparison: the work of `wasm-node bench`, with Erlang's processes.
%%
%%   erlc beam_peer.erl
%%   erl -noshell -run beam_peer main local FIGURES ROUNDS
%%   erl -noshell -sname a@localhost -setcookie c -run beam_peer main remote NODE FIGURES ROUNDS
%%   erl -noshell +S 2:2 -run beam_peer main scale ACTORS MESSAGES ROUNDS
%%   erl -noshell -run beam_peer main idle ACTORS
%%
%% FIGURES is `all`, or names with commas between. One line a figure: NAME VALUE UNIT, with the
%% names of `wasm-node bench`. It ends by itself, with status 1 if it could not measure.
-module(beam_peer).
-export([main/1, echo/0, sink/0, idle/0, player/1]).

-define(LOCAL, ["local_call", "local_send", "spawn", "ring", "compute", "idle_actor"]).
-define(REMOTE, ["remote_call", "remote_send", "remote_spawn", "remote_throughput",
                 "global_register", "global_whereis"]).
-define(REST_MS, 5000).

main(Args) ->
    try run(Args) of
        _ -> halt(0)
    catch
        Class:Reason:Stack ->
            io:format(standard_error, "beam_peer: ~p ~p~n~p~n", [Class, Reason, Stack]),
            halt(1)
    end.

run(["local", Figures, Rounds]) ->
    Wanted = wanted(Figures, ?LOCAL),
    times(Rounds, fun() -> [local(F) || F <- Wanted, F =/= "idle_actor"] end),
    [idle_actors(100000) || lists:member("idle_actor", Wanted)];
run(["remote", Name, Figures, Rounds]) ->
    Node = list_to_atom(Name),
    pong = net_adm:ping(Node),
    Wanted = wanted(Figures, ?REMOTE),
    times(Rounds, fun() ->
        [remote(F, Node) || F <- Wanted],
        [globals(Wanted) || lists:any(fun(F) -> lists:prefix("global", F) end, Wanted)]
    end);
run(["scale", Actors, Messages, Rounds]) ->
    [times(Rounds, fun() -> mesh(list_to_integer(A), list_to_integer(Messages)) end)
     || A <- string:tokens(Actors, ",")];
run(["idle", Actors]) ->
    [idle_scale(list_to_integer(A)) || A <- string:tokens(Actors, ",")].

wanted("all", Known) -> Known;
wanted(Figures, Known) ->
    Wanted = string:tokens(Figures, ","),
    [] = Wanted -- Known,
    Wanted.

times(Rounds, F) -> [F() || _ <- lists:seq(1, list_to_integer(Rounds))].

say(Name, Value, Unit) -> io:format("~s ~.1f ~s~n", [Name, float(Value), Unit]).

timed(F) ->
    T0 = erlang:monotonic_time(nanosecond),
    F(),
    erlang:monotonic_time(nanosecond) - T0.

%% The processes that are spoken to.

echo() -> receive {From, M} -> From ! M, echo(); stop -> ok end.

sink() -> receive {done, From} -> From ! done, sink(); stop -> ok; _ -> sink() end.

idle() -> receive {ping, From} -> From ! pong, idle(); stop -> ok end.

forward(Next) -> receive stop -> Next ! stop; M -> Next ! M, forward(Next) end.

player(Driver) ->
    receive
        {_, 0} -> Driver ! done, player(Driver);
        {From, Left} -> From ! {self(), Left - 1}, player(Driver);
        stop -> ok
    end.

%% One node.

local("local_call") ->
    N = 300000,
    say("local_call", ping_pong(spawn(?MODULE, echo, []), N) / N, "ns/roundtrip");
local("local_send") ->
    N = 300000,
    say("local_send", flood(spawn(?MODULE, sink, []), N, small()) / N, "ns/message");
local("spawn") ->
    N = 100000,
    Self = self(),
    T = timed(fun() ->
        [begin spawn(fun() -> Self ! hi end), receive hi -> ok end end || _ <- lists:seq(1, N)]
    end),
    say("spawn", T / N, "ns/actor");
local("ring") ->
    {N, Rounds} = {1000, 100},
    Last = lists:foldl(fun(_, Next) -> spawn(fun() -> forward(Next) end) end, self(),
                       lists:seq(1, N)),
    T = timed(fun() ->
        [begin Last ! token, receive token -> ok end end || _ <- lists:seq(1, Rounds)]
    end),
    Last ! stop,
    receive stop -> ok end,
    say("ring", T / (N + 1) / Rounds, "ns/hop");
local("compute") ->
    Self = self(),
    T = timed(fun() -> spawn(fun() -> Self ! {fib, fib(30)} end), receive {fib, _} -> ok end end),
    say("compute", T / 1.0e6, "ms/fib30").

small() -> binary:copy(<<7>>, 16).

ping_pong(P, N) ->
    M = small(),
    T = timed(fun() -> [begin P ! {self(), M}, receive M -> ok end end || _ <- lists:seq(1, N)] end),
    P ! stop,
    T.

flood(P, N, M) ->
    T = timed(fun() ->
        [P ! M || _ <- lists:seq(1, N)],
        P ! {done, self()},
        receive done -> ok end
    end),
    P ! stop,
    T.

fib(N) when N < 2 -> N;
fib(N) -> fib(N - 1) + fib(N - 2).

idle_actors(N) ->
    M0 = erlang:memory(total),
    {Pids, T} = spawn_idle(N),
    say("idle_actor", (erlang:memory(total) - M0) / N / 1024, "KiB/actor"),
    say("idle_spawn", T / N, "ns/actor"),
    [P ! stop || P <- Pids].

spawn_idle(N) ->
    T0 = erlang:monotonic_time(nanosecond),
    Pids = [spawn(?MODULE, idle, []) || _ <- lists:seq(1, N)],
    {Pids, erlang:monotonic_time(nanosecond) - T0}.

%% Two nodes.

remote("remote_call", Node) ->
    N = 20000,
    say("remote_call", ping_pong(spawn(Node, ?MODULE, echo, []), N) / N, "ns/roundtrip");
remote("remote_send", Node) ->
    N = 500000,
    say("remote_send", flood(spawn(Node, ?MODULE, sink, []), N, small()) / N, "ns/message");
remote("remote_spawn", Node) ->
    N = 20000,
    Self = self(),
    T = timed(fun() ->
        [begin spawn(Node, erlang, send, [Self, hi]), receive hi -> ok end end
         || _ <- lists:seq(1, N)]
    end),
    say("remote_spawn", T / N, "ns/actor");
remote("remote_throughput", Node) ->
    {N, Size} = {500, 1 bsl 20},
    T = flood(spawn(Node, ?MODULE, sink, []), N, binary:copy(<<7>>, Size)),
    say("remote_throughput", N * Size * 1.0e3 / T, "MB/s");
remote("global" ++ _, _) ->
    see_globals.

%% The look-ups need the names, so the two go together.
globals(Wanted) ->
    N = 1000,
    Named = [{I, spawn(?MODULE, idle, [])} || I <- lists:seq(1, N)],
    T1 = timed(fun() -> [yes = global:register_name({bench, I}, P) || {I, P} <- Named] end),
    [say("global_register", T1 / N, "ns/name") || lists:member("global_register", Wanted)],
    T2 = timed(fun() -> [P = global:whereis_name({bench, I}) || {I, P} <- Named] end),
    [say("global_whereis", T2 / N, "ns/name") || lists:member("global_whereis", Wanted)],
    [begin global:unregister_name({bench, I}), P ! stop end || {I, P} <- Named].

%% Many processes that are all awake: pairs that pass a ball to and fro.

mesh(Actors, Messages) ->
    Pairs = Actors div 2,
    Passes = max(Messages, Actors) div Pairs,
    Self = self(),
    Players = [{spawn_player(Self), spawn_player(Self)} || _ <- lists:seq(1, Pairs)],
    T = timed(fun() ->
        [Other ! {One, Passes - 1} || {One, Other} <- Players],
        [receive done -> ok end || _ <- Players]
    end),
    say(io_lib:format("scale_workers_~b_actors_~b",
                      [erlang:system_info(schedulers_online), Actors]),
        Pairs * Passes * 1.0e9 / T, "messages/s"),
    Monitors = [begin M = monitor(process, P), P ! stop, M end
                || {A, B} <- Players, P <- [A, B]],
    [receive {'DOWN', M, process, _, _} -> ok end || M <- Monitors].

spawn_player(Driver) -> spawn(?MODULE, player, [Driver]).

%% Many processes that are all asleep.

idle_scale(N) ->
    M0 = erlang:memory(total),
    {Pids, T} = spawn_idle(N),
    Say = fun(What, Value, Unit) ->
        say(io_lib:format("idle_~b_~s", [N, What]), Value, Unit)
    end,
    Memory = fun() -> (erlang:memory(total) - M0) / N / 1024 end,
    Say("spawn", T / N, "ns/actor"),
    Say("memory", Memory(), "KiB/actor"),
    timer:sleep(?REST_MS),
    Say("memory_rested", Memory(), "KiB/actor"),
    Calls = timed(fun() ->
        [begin P ! {ping, self()}, receive pong -> ok end end || P <- Pids]
    end),
    Say("call", Calls / N, "ns/actor"),
    Say("memory_called", Memory(), "KiB/actor"),
    Monitors = [begin M = monitor(process, P), P ! stop, M end || P <- Pids],
    [receive {'DOWN', M, process, _, _} -> ok end || M <- Monitors].
