%% Runs the table of cases on real Erlang/OTP, with two nodes: README.md tells what the cases
%% mean. What `tests/actors/conformance` does on wasm-node, this does here; neither knows the
%% other. `run_erlang.escript` compiles and starts it.
-module(conformance).

-export([main/1]).
-export([conduct/6, proc/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, handle_continue/2, terminate/2]).
-export([callback_mode/0, handle_event/4, terminate/3]).

%% How many cases run at once.
-define(MAX_RUNNING, 24).
%% How long a step waits for what is to come.
-define(PATIENCE_MS, 5000).
%% How long a case may take.
-define(CASE_MS, 60000).

%% ---- All cases ----

main(Files) ->
    ok = logger:set_primary_config(level, none),
    Args = ["-setcookie", atom_to_list(erlang:get_cookie()), "-kernel", "logger_level", "none",
            "-pa", filename:dirname(code:which(?MODULE))],
    {ok, Peer, Other} = peer:start(#{name => peer:random_name(), connection => standard_io, args => Args}),
    true = net_kernel:connect_node(Other),
    {ok, _} = pg:start(pg),
    {ok, _} = peer:call(Peer, gen_server, start, [{local, pg}, pg, [pg], []]),
    ok = global:sync(),
    Failed = lists:sum([file(File, Other) || File <- Files]),
    peer:stop(Peer),
    halt(min(Failed, 1)).

file(File, Other) ->
    {Top, Cases} = parse(File),
    Runs = [{Case, Where} || Case <- Cases, Where <- places(maps:get("where", Case, "both"))],
    Most = case Top of #{"serial" := "true"} -> 1; _ -> ?MAX_RUNNING end,
    Results = run(lists:enumerate(Runs), Other, Most, #{}, []),
    Bad = [Text || {_, {failed, Text}} <- lists:sort(Results)],
    io:format("~s: ~b cases, ~b runs, ~b failed~n",
              [filename:basename(File), length(Cases), length(Runs), length(Bad)]),
    [io:format("~s~n", [Text]) || Text <- Bad],
    length(Bad).

places("here") -> [here];
places("apart") -> [apart];
places("both") -> [here, apart].

run([], _, _, Running, Results) when map_size(Running) =:= 0 ->
    Results;
run([{Id, {Case, Where}} | Rest], Other, Most, Running, Results) when map_size(Running) < Most ->
    Steps = steps(maps:get("script", Case), maps:get("name", Case)),
    Name = maps:get("name", Case),
    {Pid, Monitor} = spawn_monitor(?MODULE, conduct, [self(), Id, Name, Where, Other, Steps]),
    run(Rest, Other, Most, Running#{Monitor => {Id, Name, Pid}}, Results);
run(Rest, Other, Most, Running, Results) ->
    receive
        {result, Id, Result} ->
            run(Rest, Other, Most, Running, [{Id, Result} | Results]);
        {'DOWN', Monitor, process, _, normal} ->
            run(Rest, Other, Most, maps:remove(Monitor, Running), Results);
        {'DOWN', Monitor, process, _, Reason} ->
            {Id, Name, _} = maps:get(Monitor, Running),
            Text = io_lib:format("  ~s: the run ended: ~p", [Name, Reason]),
            run(Rest, Other, Most, maps:remove(Monitor, Running), [{Id, {failed, Text}} | Results])
    after ?CASE_MS ->
        exit({stuck, maps:values(Running)})
    end.

%% ---- The files: a small part of TOML ----

parse(File) ->
    {ok, Bytes} = file:read_file(File),
    Lines = lists:enumerate(string:split(binary_to_list(Bytes), "\n", all)),
    Tables = toml(Lines, File, #{}, []),
    {hd(Tables), tl(Tables)}.

toml([], _, Table, Done) ->
    lists:reverse([Table | Done]);
toml([{Number, Line} | Rest], File, Table, Done) ->
    case string:trim(Line) of
        "" -> toml(Rest, File, Table, Done);
        "#" ++ _ -> toml(Rest, File, Table, Done);
        "[[case]]" -> toml(Rest, File, #{}, [Table | Done]);
        Text ->
            case string:split(Text, " = ") of
                [Key, "'''"] ->
                    {Value, Left} = lists:splitwith(fun({_, L}) -> string:trim(L) =/= "'''" end, Rest),
                    toml(tl(Left), File, Table#{Key => Value}, Done);
                [Key, "\"" ++ Value] ->
                    toml(Rest, File, Table#{Key => string:trim(Value, trailing, "\"")}, Done);
                [Key, Value] ->
                    toml(Rest, File, Table#{Key => Value}, Done);
                _ ->
                    exit({File, Number, "neither a key, a case nor a comment", Text})
            end
    end.

%% Lines to `{line, words, expected}`.
steps(Lines, Case) ->
    lists:foldr(fun({Number, Line}, Steps) -> step(Number, string:trim(Line), Steps, Case) end,
                [], Lines).

step(_, "", Steps, _) -> Steps;
step(_, "#" ++ _, Steps, _) -> Steps;
step(_, "ours =>" ++ _, Steps, _) -> Steps;
step(Number, Line, Steps, Case) ->
    case string:split(Line, "=>") of
        [Step] -> [{Number, words(Step), "ok"} | Steps];
        [Step, Expected] when Step =/= "" -> [{Number, words(Step), string:trim(Expected)} | Steps];
        _ -> exit({Case, Number, "no step", Line})
    end.

words(Text) -> string:lexemes(Text, " ").

%% ---- One case ----

conduct(Suite, Id, Name, Where, Other, Steps) ->
    Prefix = lists:flatten(io_lib:format("~b-", [Id])),
    State = #{suite => Suite, where => Where, other => Other, prefix => Prefix ++ Name ++ "-",
              names => #{}, back => #{}, monitors => #{}, ended => #{}, notes => []},
    {Results, Last} = lists:mapfoldl(fun({Number, Words, Expected}, Before) ->
        {Got, After} = conductor(Words, Before),
        {{Number, Words, Expected, Got}, After}
    end, State, Steps),
    [exit(Pid, kill) || Pid <- maps:keys(maps:get(back, Last))],
    Wrong = [io_lib:format("    line ~b: ~s~n      expected ~s~n      got      ~s~n",
                           [Number, lists:join(" ", Words), Expected, Got])
             || {Number, Words, Expected, Got} <- Results, Expected =/= Got, Expected =/= "*"],
    Suite ! {result, Id, case Wrong of
        [] -> passed;
        _ -> {failed, io_lib:format("  ~s (~s)~n~s", [Name, Where, Wrong])}
    end}.

conductor(["spawn" | Names], State) ->
    {"ok", lists:foldl(fun(Name, Before) ->
        Pid = spawn(node_for(Name, Before), ?MODULE, proc, [self(), maps:get(prefix, Before)]),
        know(Name, Pid, Before)
    end, State, Names)};
conductor(["down", Name], State) ->
    Pid = maps:get(Name, maps:get(names, State)),
    After = wait(fun(S) -> is_map_key(Pid, maps:get(ended, S)) end, State),
    {case maps:get(ended, After) of
        #{Pid := Reason} -> reason(Reason);
        _ -> "alive"
    end, After};
conductor(["log", Count], State) ->
    N = list_to_integer(Count),
    After = wait(fun(#{notes := Notes}) -> length(Notes) >= N end, State),
    take_notes(N, After);
conductor(["log", "sorted", Count], State) ->
    N = list_to_integer(Count),
    After = wait(fun(#{notes := Notes}) -> length(Notes) >= N end, State),
    #{notes := Notes} = After,
    {Taken, Left} = lists:split(min(N, length(Notes)), Notes),
    {joined(lists:sort([show(Note, After) || Note <- Taken])), After#{notes := Left}};
conductor(["quiet", Ms], State) ->
    After = absorb_for(list_to_integer(Ms), State),
    take_notes(length(maps:get(notes, After)), After);
conductor(["disconnect"], State) ->
    disconnect(State),
    {"ok", State#{apart => true}};
conductor(["later", Ms, "disconnect"], State) ->
    spawn(fun() -> timer:sleep(list_to_integer(Ms)), disconnect(State) end),
    {"ok", State#{apart => true}};
conductor(["reconnect"], State = #{other := Other, back := Back, ended := Ended}) ->
    %% What was monitored may have been lost: again, and that once more changes nothing.
    After = maps:remove(apart, absorb_for(0, State)),
    Connected = net_kernel:connect_node(Other),
    Again = maps:from_list([{monitor(process, Pid), Pid} || Pid <- maps:keys(maps:without(maps:keys(Ended), Back))]),
    {atom_to_list(Connected), After#{monitors := Again}};
conductor([Who | Words], State) ->
    Name = string:trim(Who, trailing, ":"),
    case maps:get(names, State) of
        #{Name := Pid} when Name =/= Who -> command(Pid, Words, State);
        _ -> {"no process named " ++ Name, State}
    end.

take_notes(N, State = #{notes := Notes}) ->
    {Taken, Left} = lists:split(min(N, length(Notes)), Notes),
    Shown = [show(Note, State) || Note <- Taken],
    {joined(Shown), State#{notes := Left}}.

joined([]) -> "nothing";
joined(Texts) -> lists:flatten(lists:join("; ", Texts)).

command(Pid, Words, State) ->
    Tag = make_ref(),
    Pid ! {cmd, self(), Tag, Words, maps:get(names, State)},
    After = wait(fun(#{ended := Ended} = S) ->
        is_map_key(Tag, S) orelse is_map_key(Pid, Ended)
    end, State),
    case After of
        #{Tag := {Result, News}} ->
            Known = maps:fold(fun know/3, maps:remove(Tag, After), News),
            {show(Result, Known), Known};
        #{ended := #{Pid := Reason}} ->
            Ends = lists:member(hd(Words), ["exit", "quit", "crash"]),
            {case Ends of true -> reason(Reason); false -> "died " ++ reason(Reason) end, After};
        _ ->
            {"no answer", After}
    end.

know(Name, Alias, State = #{names := Names}) when is_reference(Alias) ->
    State#{names := Names#{Name => Alias}};
know(Name, Pid, State = #{names := Names, back := Back, monitors := Monitors}) ->
    case Back of
        #{Pid := _} ->
            State#{names := Names#{Name => Pid}};
        _ ->
            Monitor = monitor(process, Pid),
            State#{names := Names#{Name => Pid}, back := Back#{Pid => Name},
                   monitors := Monitors#{Monitor => Pid}}
    end.

node_for("b" ++ _, #{where := apart, other := Other}) -> Other;
node_for(_, _) -> node().

%% Longer than the processes themselves wait, so that they answer.
wait(Done, State) -> wait(Done, State, now_ms() + 2 * ?PATIENCE_MS).

wait(Done, State, Until) ->
    case Done(State) of
        true -> State;
        false ->
            receive
                Message -> wait(Done, absorb(Message, State), Until)
            after max(0, Until - now_ms()) ->
                State
            end
    end.

absorb_for(Ms, State) ->
    Until = now_ms() + Ms,
    wait(fun(_) -> false end, State, Until).

absorb({ack, Tag, Result, News}, State) ->
    State#{Tag => {Result, News}};
absorb({note, Name, Pid, Words}, State) ->
    After = #{notes := Notes} = know(Name, Pid, State),
    After#{notes := Notes ++ [[Name | Words]]};
absorb({'DOWN', _, process, Pid, noconnection}, State = #{apart := true}) when node(Pid) =/= node() ->
    State;
absorb({'DOWN', Monitor, process, _, Reason}, State = #{monitors := Monitors, ended := Ended}) ->
    case Monitors of
        #{Monitor := Pid} -> State#{ended := Ended#{Pid => Reason}};
        _ -> State
    end;
absorb(_, State) ->
    State.

%% Waits until it is done.
disconnect(#{other := Other}) ->
    true = monitor_node(Other, true),
    true = erlang:disconnect_node(Other),
    receive {nodedown, Other} -> ok end.

now_ms() -> erlang:monotonic_time(millisecond).

%% Words with pids among them, which are shown by their names.
show({many, Several}, State) -> joined([show(Words, State) || Words <- Several]);
show({sorted, Several}, State) -> joined(lists:sort([show(Words, State) || Words <- Several]));
show(Words, #{back := Back}) ->
    Shown = [case Word of
        _ when is_pid(Word) -> maps:get(Word, Back, "somebody");
        _ -> Word
    end || Word <- Words],
    lists:flatten(lists:join(" ", Shown)).

%% ---- Reasons ----

to_reason("shutdown:" ++ Text) -> {shutdown, list_to_atom(Text)};
to_reason("data:" ++ Text) -> {data, Text};
to_reason(Word) -> list_to_atom(Word).

reason(Reason) when is_atom(Reason) -> atom_to_list(Reason);
reason({shutdown, Reason}) when is_atom(Reason) -> "shutdown:" ++ atom_to_list(Reason);
reason({shutdown, {failed_to_start_child, _, _}}) -> "failed_to_start_child";
reason({data, Text}) -> "data:" ++ Text;
reason({already_started, _}) -> "already_started";
reason({_, [{_, _, _, _} | _]}) -> "crash";
reason({Reason, {gen_server, call, _}}) -> reason(Reason);
reason(Reason) -> lists:flatten(io_lib:format("~w", [Reason])).

%% ---- A process: does what the conductor says, one thing at a time ----

proc(Conductor, Prefix) ->
    proc(#{conductor => Conductor, prefix => Prefix, refs => #{}, labels => #{}}).

proc(State) ->
    receive
        {cmd, Conductor, Tag, Words, Names} ->
            {Result, News, After} = do(Words, State#{names => Names}),
            Conductor ! {ack, Tag, Result, News},
            proc(After)
    end.

%% What a new process does before anything else.
born(Conductor, Prefix, []) -> proc(Conductor, Prefix);
born(_, _, ["doing", "exit", Reason]) -> exit(to_reason(Reason)).

do(Words, State) ->
    case try_do(Words, State) of
        {Result, News, After} -> {Result, News, After};
        {Result, After} when is_map(After) -> {Result, #{}, After};
        Result -> {Result, #{}, State}
    end.

try_do(["link", Who], S) -> link(pid(Who, S)), ["ok"];
try_do(["unlink", Who], S) -> unlink(pid(Who, S)), ["ok"];
try_do(["trap", "on"], _) -> [atom_to_list(process_flag(trap_exit, true))];
try_do(["trap", "off"], _) -> [atom_to_list(process_flag(trap_exit, false))];
try_do(["exit", Reason], _) -> exit(to_reason(Reason));
try_do(["quit", Reason], _) ->
    exit(self(), to_reason(Reason)),
    receive after infinity -> ok end;
try_do(["crash"], _) -> error(crash);
try_do(["signal", Who, Reason], S) -> exit(pid(Who, S), to_reason(Reason)), ["ok"];
try_do(["send", To | Text], S) -> send(To, {msg, lists:flatten(lists:join(" ", Text))}, S), ["ok"];
try_do(["alive", Who], S) -> [atom_to_list(is_process_alive(pid(Who, S)))];
try_do(["monitor", To], S) -> try_do(["monitor", To, "as", To], S);
try_do(["monitor", To, "as", Label], S) ->
    {["ok"], label(Label, monitor(process, destination(To, S)), S)};
try_do(["demonitor", Label], S) -> true = demonitor(ref(Label, S)), ["ok"];
try_do(["demonitor", Label, "flush"], S) -> true = demonitor(ref(Label, S), [flush]), ["ok"];
try_do(["spawn", Name | How], S) -> born_by(Name, How, [], S);
try_do(["spawn_link", Name | How], S) -> born_by(Name, How, [link], S);
try_do(["spawn_monitor", Name | How], S) -> born_by(Name, How, [monitor], S);
%% Messages
try_do(["receive"], S) -> shown(next(?PATIENCE_MS), S);
try_do(["receive", Count], S) -> {many, several(Count, S)};
try_do(["sorted", Count], S) -> {sorted, several(Count, S)};
try_do(["after", Ms], S) ->
    case next(list_to_integer(Ms)) of
        none -> ["timeout"];
        Message -> shown(Message, S)
    end;
try_do(["pick", "down"], S) ->
    shown(receive {'DOWN', _, _, _, _} = M -> M after ?PATIENCE_MS -> none end, S);
try_do(["pick", "exit"], S) ->
    shown(receive {'EXIT', _, _} = M -> M after ?PATIENCE_MS -> none end, S);
try_do(["pick", "timer"], S) ->
    shown(receive {timeout, _, _} = M -> M after ?PATIENCE_MS -> none end, S);
try_do(["pick", Text], S) ->
    shown(receive {msg, Text} = M -> M after ?PATIENCE_MS -> none end, S);
%% Time
try_do(["start_timer", Ms, "as", Label], S) ->
    {["ok"], label(Label, erlang:start_timer(list_to_integer(Ms), self(), Label), S)};
try_do(["send_after", Ms, To, Text, "as", Label], S) ->
    Timer = erlang:send_after(list_to_integer(Ms), pid(To, S), {msg, Text}),
    {["ok"], label(Label, Timer, S)};
try_do(["cancel", Label], S) ->
    case erlang:cancel_timer(ref(Label, S)) of
        false -> ["false"];
        _ -> ["true"]
    end;
try_do(["since", Label, Ms], #{refs := Refs}) ->
    {_, Begun} = maps:get(Label, Refs),
    Passed = erlang:monotonic_time(microsecond) - Begun,
    case Passed >= list_to_integer(Ms) * 1000 of
        true -> ["ok"];
        false -> [io_lib:format("only ~b us", [Passed])]
    end;
%% Names
try_do(["register", Name], S) -> registering(Name, self(), S);
try_do(["register", Name, Who], S) -> registering(Name, pid(Who, S), S);
try_do(["unregister", Name], S) ->
    try unregister(mangled(Name, S)) of
        true -> ["ok"]
    catch
        error:badarg -> ["none"]
    end;
try_do(["whereis", Name], S) -> holder(whereis(mangled(Name, S)));
try_do(["registered", Name], S) ->
    [atom_to_list(lists:member(mangled(Name, S), registered()))];
try_do(["global_register", Name], S) ->
    [atom_to_list(global:register_name(mangled(Name, S), self()))];
try_do(["global_unregister", Name], S) ->
    global:unregister_name(mangled(Name, S)),
    ["ok"];
try_do(["global_whereis", Name], S) ->
    holder(global:whereis_name(mangled(Name, S)));
%% Aliases
try_do(["alias", Label], S) -> {["ok"], #{Label => alias()}, S};
try_do(["alias", Label, "reply"], S) -> {["ok"], #{Label => alias([reply])}, S};
try_do(["unalias", Label], S) -> [atom_to_list(unalias(maps:get(Label, maps:get(names, S))))];
%% Groups
try_do(["join", Group], S) -> try_do(["join", Group, "self"], S);
try_do(["join", Group, Who], S) -> [atom_to_list(pg:join(mangled(Group, S), pid(Who, S)))];
try_do(["leave", Group], S) -> [atom_to_list(pg:leave(mangled(Group, S), self()))];
try_do(["members", Group], S) -> {sorted, [[Pid] || Pid <- pg:get_members(mangled(Group, S))]};
try_do(["local_members", Group], S) ->
    {sorted, [[Pid] || Pid <- pg:get_local_members(mangled(Group, S))]};
try_do(["members_soon", Group, Count], S) ->
    members_soon(Group, list_to_integer(Count), ?PATIENCE_MS, S);
%% Servers
try_do(["start", Name | How], S) -> start_server(Name, How, S);
try_do(["machine", Name, State | How], S) -> start_machine(Name, State, How, S);
try_do(["call", To | Words], S) ->
    {Return, Ms} = case lists:reverse(Words) of
        [Within, "within" | Reversed] -> {lists:reverse(Reversed), list_to_integer(Within)};
        _ -> {Words, ?PATIENCE_MS}
    end,
    try gen_server:call(destination(To, S), Return, Ms) of
        Reply -> ["reply", Reply]
    catch
        exit:{{nodedown, _}, _} -> ["noconnection"];
        exit:{timeout, _} -> ["timeout"];
        exit:{noproc, _} -> ["noproc"];
        exit:{noconnection, _} -> ["noconnection"];
        exit:{Reason, {gen_server, call, _}} -> ["exit", reason(Reason)]
    end;
try_do(["cast", To | Words], S) -> gen_server:cast(destination(To, S), Words), ["ok"];
try_do(["tell", To | Words], S) -> send(To, {tell, Words}, S), ["ok"];
try_do(["stop", To, Reason], S) ->
    try gen_server:stop(destination(To, S), to_reason(Reason), ?PATIENCE_MS) of
        ok -> ["ok"]
    catch
        exit:Failed -> ["exit", reason(Failed)]
    end;
%% Supervisors
try_do(["supervise", Name | Words], S) -> supervise(Name, Words, S);
try_do(["start_child", To | Words], S) ->
    case supervisor:start_child(destination(To, S), child(Words, S)) of
        {ok, undefined} -> ["ignore"];
        {ok, _} -> ["ok"];
        {error, Reason} -> ["error", child_error(Reason)]
    end;
try_do(["terminate_child", To, Id], S) -> done(supervisor:terminate_child(destination(To, S), Id));
try_do(["restart_child", To, Id], S) -> done(supervisor:restart_child(destination(To, S), Id));
try_do(["delete_child", To, Id], S) -> done(supervisor:delete_child(destination(To, S), Id));
try_do(["which", To], S) ->
    Children = supervisor:which_children(destination(To, S)),
    Shown = [Id ++ case Child of
        undefined -> " undefined";
        restarting -> " restarting";
        _ -> " up"
    end ++ case Type of worker -> ""; supervisor -> " supervisor" end || {Id, Child, Type, _} <- Children],
    [joined(lists:sort(Shown))];
try_do(["count", To], S) ->
    Counts = maps:from_list(supervisor:count_children(destination(To, S))),
    [io_lib:format("specs ~b active ~b supervisors ~b workers ~b",
                   [maps:get(Key, Counts) || Key <- [specs, active, supervisors, workers]])];
try_do(Words, _) ->
    ["unknown", "operation:" | Words].

holder(undefined) -> ["undefined"];
holder(Pid) -> [Pid].

several(Count, S) -> [shown(next(?PATIENCE_MS), S) || _ <- lists:seq(1, list_to_integer(Count))].

%% Other nodes are told of groups, which takes a moment.
members_soon(Group, Count, LeftMs, S) ->
    case pg:get_members(mangled(Group, S)) of
        Pids when length(Pids) =:= Count; LeftMs =< 0 -> {sorted, [[Pid] || Pid <- Pids]};
        _ -> timer:sleep(5), members_soon(Group, Count, LeftMs - 5, S)
    end.

pid(Name, #{names := Names}) ->
    case Names of
        #{Name := Pid} -> Pid;
        _ when Name =:= "self" -> self();
        _ -> exit({no_process_named, Name})
    end.

mangled(Name, #{prefix := Prefix}) -> list_to_atom(Prefix ++ Name).

destination("name:" ++ Place, S) ->
    case string:split(Place, "@") of
        [Name] -> {mangled(Name, S), node()};
        [Name, Who] -> {mangled(Name, S), node(pid(Who, S))}
    end;
destination("global:" ++ Name, S) -> {global, mangled(Name, S)};
destination(Name, S) -> pid(Name, S).

send("global:" ++ Name, Message, S) ->
    catch global:send(mangled(Name, S), Message);
send(To, Message, S) ->
    destination(To, S) ! Message.

label(Label, Ref, S = #{refs := Refs, labels := Labels}) ->
    S#{refs := Refs#{Label => {Ref, erlang:monotonic_time(microsecond)}}, labels := Labels#{Ref => Label}}.

ref(Label, #{refs := Refs}) -> element(1, maps:get(Label, Refs)).

born_by(Name, ["at", Who | How], Options, S) -> born_by(Name, How, Options, node(pid(Who, S)), S);
born_by(Name, How, Options, S) -> born_by(Name, How, Options, node(), S).

born_by(Name, How, Options, Node, S = #{conductor := Conductor, prefix := Prefix}) ->
    Born = fun() -> born(Conductor, Prefix, How) end,
    case spawn_opt(Node, Born, Options) of
        {Pid, Monitor} -> {["ok"], #{Name => Pid}, label(Name, Monitor, S)};
        Pid -> {["ok"], #{Name => Pid}, S}
    end.

registering(Name, Pid, S) ->
    try register(mangled(Name, S), Pid) of
        true -> ["ok"]
    catch
        error:badarg -> ["badarg"]
    end.

next(Ms) ->
    receive
        Message when not (is_tuple(Message) andalso element(1, Message) =:= cmd) -> Message
    after Ms -> none
    end.

shown(none, _) -> ["nothing"];
shown({msg, Text}, _) -> [Text];
shown({'EXIT', Pid, Reason}, _) -> ["exit", Pid, reason(Reason)];
shown({'DOWN', Ref, process, _, Reason}, #{labels := Labels}) ->
    ["down", maps:get(Ref, Labels, "?"), reason(Reason)];
shown({timeout, _, Label}, _) -> ["timer", Label];
shown(Message, _) -> [io_lib:format("~w", [Message])].

%% ---- Servers: the requests say what the callbacks return ----

start_server(Name, How, S) ->
    Options = options(How, #{trap => false}),
    Args = server_args(Name, Options, S),
    Start = case Options of #{link := true} -> start_link; _ -> start end,
    Named = case Options of
        #{name := Registered} -> [{local, mangled(Registered, S)}];
        _ -> []
    end,
    started(Name, apply(gen_server, Start, Named ++ [?MODULE, Args, []]), S).

started(Name, {ok, Pid}, S) -> {["ok"], #{Name => Pid}, S};
started(_, {error, {already_started, Pid}}, _) -> ["already_started", Pid];
started(_, {error, Reason}, _) -> ["error", reason(Reason)];
started(_, ignore, _) -> ["ignore"].

server_args(Name, Options, #{conductor := Conductor}) ->
    {server, Options#{id => Name, conductor => Conductor, waiting => []}}.

options([], Options) -> Options;
options(["link" | Rest], Options) -> options(Rest, Options#{link => true});
options(["name", Name | Rest], Options) -> options(Rest, Options#{name => Name});
options(["trap" | Rest], Options) -> options(Rest, Options#{trap => true});
options(["notrap" | Rest], Options) -> options(Rest, Options#{trap => false});
options(["deaf" | Rest], Options) -> options(Rest, Options#{deaf => true});
options(["init" | Return], Options) -> Options#{init => Return};
options(["enter", State | Rest], Options = #{enters := Enters}) ->
    {Return, Left} = bracket(Rest),
    options(Left, Options#{enters := Enters#{State => Return}});
options([Restart | Rest], Options) when Restart =:= "permanent"; Restart =:= "transient"; Restart =:= "temporary" ->
    options(Rest, Options#{restart => list_to_atom(Restart)});
options(["shutdown", "infinity" | Rest], Options) -> options(Rest, Options#{shutdown => infinity});
options(["shutdown", "brutal_kill" | Rest], Options) -> options(Rest, Options#{shutdown => brutal_kill});
options(["shutdown", Ms | Rest], Options) -> options(Rest, Options#{shutdown => list_to_integer(Ms)});
options(["significant" | Rest], Options) -> options(Rest, Options#{significant => true});
options(["supervisor" | Rest], Options) -> options(Rest, Options#{type => supervisor}).

note(Words, #{id := Id, conductor := Conductor}) ->
    Conductor ! {note, Id, self(), Words}.

init({server, S = #{trap := Trap}}) ->
    process_flag(trap_exit, Trap),
    note(["init"], S),
    case maps:get(init, S, ["ok"]) of
        ["ok" | Next] -> then([ok, S], Next);
        ["stop", Reason] -> {stop, to_reason(Reason)};
        ["ignore"] -> ignore;
        ["exit", Reason] -> exit(to_reason(Reason));
        ["crash"] -> error(crash);
        ["sleep", Ms] -> timer:sleep(list_to_integer(Ms)), {ok, S}
    end;
init({machine, D = #{trap := Trap, first := First}}) ->
    process_flag(trap_exit, Trap),
    note(["init"], D),
    case maps:get(init, D, ["ok"]) of
        ["ok" | More] ->
            {Actions, After} = actions(More, none, D),
            {ok, First, After, Actions};
        ["stop", Reason] -> {stop, to_reason(Reason)};
        ["ignore"] -> ignore;
        ["crash"] -> error(crash)
    end;
init({sup, Flags, Children}) ->
    {ok, {Flags, Children}}.

then(Return, []) -> list_to_tuple(Return);
then(Return, ["timeout", Ms]) -> list_to_tuple(Return ++ [list_to_integer(Ms)]);
then(Return, ["hibernate"]) -> list_to_tuple(Return ++ [hibernate]);
then(Return, ["continue" | Words]) -> list_to_tuple(Return ++ [{continue, Words}]).

handle_call(Words, From, S = #{waiting := Waiting}) ->
    note(["call"], S),
    case Words of
        ["reply", Text | Next] -> then([reply, Text, S], Next);
        ["noreply" | Next] -> then([noreply, S], Next);
        ["defer" | Next] -> then([noreply, S#{waiting := Waiting ++ [From]}], Next);
        ["early", Text | Rest] -> gen_server:reply(From, Text), act(Rest, S);
        ["stop", Reason] -> {stop, to_reason(Reason), S};
        ["stop", Reason, "reply", Text] -> {stop, to_reason(Reason), Text, S};
        ["crash"] -> error(crash);
        ["exit", Reason] -> exit(to_reason(Reason))
    end.

handle_cast(Words, S) -> note(["cast"], S), act(Words, S).

handle_info({tell, Words}, S) -> note(["info"], S), act(Words, S);
handle_info(timeout, S) -> note(["timeout"], S), {noreply, S};
handle_info({msg, Text}, S) -> note(["info", Text], S), {noreply, S};
handle_info({'EXIT', Pid, Reason}, S) -> note(["info", "exit", Pid, reason(Reason)], S), {noreply, S};
handle_info(_, S) -> note(["info", "other"], S), {noreply, S}.

handle_continue(Words, S) -> note(["continue"], S), act(Words, S).

act(["noreply" | Next], S) -> then([noreply, S], Next);
act(["stop", Reason], S) -> {stop, to_reason(Reason), S};
act(["crash"], _) -> error(crash);
act(["exit", Reason], _) -> exit(to_reason(Reason));
act(["answer", Text], S = #{waiting := [From | Rest]}) ->
    gen_server:reply(From, Text),
    {noreply, S#{waiting := Rest}}.

terminate(Reason, S) ->
    note(["terminate", reason(Reason)], S),
    case S of
        #{deaf := true} -> timer:sleep(infinity);
        _ -> ok
    end.

%% ---- Supervisors ----

supervise(Name, Words, S) ->
    [Top | Children] = split(Words),
    [Strategy, "intensity", Intensity, "period", Seconds | More] = Top,
    Flags = #{strategy => list_to_atom(Strategy), intensity => list_to_integer(Intensity),
              period => list_to_integer(Seconds)},
    All = case More of
        [] -> Flags;
        ["auto_shutdown", When] -> Flags#{auto_shutdown => list_to_atom(When)}
    end,
    case supervisor:start_link(?MODULE, {sup, All, [child(Child, S) || Child <- Children]}) of
        {ok, Pid} -> {["ok"], #{Name => Pid}, S};
        {error, Reason} -> ["error", reason(Reason)]
    end.

split(Words) ->
    case lists:splitwith(fun(Word) -> Word =/= "|" end, Words) of
        {First, []} -> [First];
        {First, [_ | Rest]} -> [First | split(Rest)]
    end.

child([Id | How], S) ->
    Options = options(How, #{trap => true}),
    Start = {gen_server, start_link, [?MODULE, server_args(Id, Options, S), []]},
    maps:merge(#{id => Id, start => Start}, maps:with([restart, shutdown, significant, type], Options)).

child_error({already_started, _}) -> "already_started";
child_error({bad_combination, _}) -> "bad_child";
child_error({Reason, Child}) when element(1, Child) =:= child -> reason(Reason);
child_error(Reason) -> reason(Reason).

done(ok) -> ["ok"];
done({ok, _}) -> ["ok"];
done({error, Reason}) -> [reason(Reason)].

%% ---- State machines ----

start_machine(Name, First, How, S = #{conductor := Conductor}) ->
    Options = options(How, #{trap => false, enters => #{}}),
    Args = {machine, Options#{id => Name, first => First, conductor => Conductor, waiting => []}},
    Start = case Options of #{link := true} -> start_link; _ -> start end,
    Named = case Options of
        #{name := Registered} -> [{local, mangled(Registered, S)}];
        _ -> []
    end,
    started(Name, apply(gen_statem, Start, Named ++ [?MODULE, Args, []]), S).

%% What is between this bracket and its end, and what follows.
bracket(["[" | Rest]) -> bracket(Rest, 0, []).

bracket(["]" | Rest], 0, Done) -> {lists:reverse(Done), Rest};
bracket(["]" | Rest], Depth, Done) -> bracket(Rest, Depth - 1, ["]" | Done]);
bracket(["[" | Rest], Depth, Done) -> bracket(Rest, Depth + 1, ["[" | Done]);
bracket([Word | Rest], Depth, Done) -> bracket(Rest, Depth, [Word | Done]).

callback_mode() -> [handle_event_function, state_enter].

handle_event(enter, Old, State, D = #{enters := Enters}) ->
    note([State, "enter", Old], D),
    transition(maps:get(State, Enters, ["keep"]), enter, State, D);
handle_event({call, From}, Words, State, D) ->
    note([State, "call"], D), transition(Words, From, State, D);
handle_event(info, {tell, Words}, State, D) ->
    note([State, "info"], D), transition(Words, none, State, D);
handle_event(info, {msg, Text}, State, D) ->
    note([State, "info", Text], D), keep_state_and_data;
handle_event(info, {'EXIT', Pid, Reason}, State, D) ->
    note([State, "info", "exit", Pid, reason(Reason)], D), keep_state_and_data;
handle_event({timeout, Name}, Words, State, D) ->
    note([State, "timer", Name], D), transition(Words, none, State, D);
handle_event(timeout, Words, State, D) ->
    note([State, "event_timeout"], D), transition(Words, none, State, D);
handle_event(Kind, Words, State, D) when Kind =:= cast; Kind =:= internal; Kind =:= state_timeout ->
    note([State, atom_to_list(Kind)], D), transition(Words, none, State, D).

transition(["in", There | Rest], From, State, D) ->
    {This, Else} = bracket(Rest),
    transition(case There of State -> This; _ -> Else end, From, State, D);
transition(["keep" | More], From, _, D) ->
    {Actions, After} = actions(More, From, D),
    {keep_state, After, Actions};
transition(["next", To | More], From, _, D) ->
    {Actions, After} = actions(More, From, D),
    {next_state, To, After, Actions};
transition(["repeat" | More], From, _, D) ->
    {Actions, After} = actions(More, From, D),
    {repeat_state, After, Actions};
transition(["stop", Reason | More], From, _, D) ->
    {Replies, After} = actions(More, From, D),
    {stop_and_reply, to_reason(Reason), Replies, After};
transition(["crash"], _, _, _) ->
    error(crash).

actions([], _, D) -> {[], D};
actions([",", "defer" | Rest], From, D = #{waiting := Waiting}) ->
    actions(Rest, From, D#{waiting := Waiting ++ [From]});
actions([",", "answer", Text | Rest], From, D = #{waiting := [To | Waiting]}) ->
    also({reply, To, Text}, Rest, From, D#{waiting := Waiting});
actions([",", "reply", Text | Rest], From, D) -> also({reply, From, Text}, Rest, From, D);
actions([",", "postpone" | Rest], From, D) -> also(postpone, Rest, From, D);
actions([",", "hibernate" | Rest], From, D) -> also(hibernate, Rest, From, D);
actions([",", "insert", Kind | Rest], From, D) ->
    {Words, Left} = bracket(Rest),
    also({next_event, list_to_atom(Kind), Words}, Left, From, D);
actions([",", "state_timeout", Ms | Rest], From, D) ->
    {Words, Left} = bracket(Rest),
    also({state_timeout, list_to_integer(Ms), Words}, Left, From, D);
actions([",", "event_timeout", Ms | Rest], From, D) ->
    {Words, Left} = bracket(Rest),
    also({timeout, list_to_integer(Ms), Words}, Left, From, D);
actions([",", "timer", Name, Ms | Rest], From, D) ->
    {Words, Left} = bracket(Rest),
    also({{timeout, Name}, list_to_integer(Ms), Words}, Left, From, D);
actions([",", "update", Which | Rest], From, D) ->
    {Words, Left} = bracket(Rest),
    also({which(Which), update, Words}, Left, From, D);
actions([",", "cancel", Which | Rest], From, D) ->
    also({which(Which), cancel}, Rest, From, D).

also(Action, Rest, From, D) ->
    {Actions, After} = actions(Rest, From, D),
    {[Action | Actions], After}.

which("state") -> state_timeout;
which("event") -> timeout;
which(Name) -> {timeout, Name}.

terminate(Reason, State, D) -> note([State, "terminate", reason(Reason)], D).
