#!/usr/bin/env escript
%% Checks the table's expectations against real Erlang/OTP, on two nodes of their own:
%%     ./run_erlang.escript [FILE.toml ...]
%% Without files, all beside this script. The exit code is 0 if every run was as expected.
main(Given) ->
    Here = filename:dirname(escript:script_name()),
    Files = case Given of
        [] -> lists:sort(filelib:wildcard(filename:join(Here, "*.toml")));
        _ -> Given
    end,
    Folder = filename:join(tmp(), "wasm-node-conformance-" ++ os:getpid()),
    ok = file:make_dir(Folder),
    Port = free_port(),
    os:putenv("ERL_EPMD_PORT", Port),
    Code = try
        Source = filename:join(Here, "conformance.erl"),
        {ok, _} = compile:file(Source, [report, warnings_as_errors, {outdir, Folder}]),
        run(["-noshell", "-sname", "conformance-" ++ os:getpid(), "-setcookie", cookie(),
             "-pa", Folder, "-eval", "conformance:main(init:get_plain_arguments()).",
             "-extra" | Files])
    after
        os:cmd("epmd -port " ++ Port ++ " -kill"),
        file:del_dir_r(Folder)
    end,
    halt(Code).

run(Args) ->
    Options = [{args, Args}, exit_status, stderr_to_stdout, binary],
    follow(open_port({spawn_executable, os:find_executable("erl")}, Options)).

follow(Port) ->
    receive
        {Port, {data, Bytes}} -> io:put_chars(Bytes), follow(Port);
        {Port, {exit_status, Status}} -> Status
    end.

tmp() ->
    case os:getenv("TMPDIR") of
        false -> "/tmp";
        Folder -> Folder
    end.

cookie() -> integer_to_list(rand:uniform(1 bsl 60)).

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    gen_tcp:close(Socket),
    integer_to_list(Port).
