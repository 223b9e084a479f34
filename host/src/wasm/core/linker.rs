//! The imports of `wit/` as core functions: each is lifted, done by the same implementation as
//! under the component layer, and lowered.

use wasmtime::{AsContextMut, FuncType, Linker, Result, ValRaw, ValType, bail};

use super::abi::{Guest, Lift, Lower, MAX_FLAT_PARAMS};
use crate::wasm::bindings::wasm_node::actor::{
    code, global, groups, io, mailbox, node, process, registry, timer,
};
use crate::wasm::data::ActorData;

/// The linker for core modules of the world `actor`.
pub(in crate::wasm) fn linker(engine: &wasmtime::Engine) -> Result<Linker<ActorData>> {
    let mut all = Imports {
        linker: Linker::new(engine),
        interface: "",
    };
    messages(&mut all)?;
    processes(&mut all)?;
    names(&mut all)?;
    surroundings(&mut all)?;
    Ok(all.linker)
}

fn messages(all: &mut Imports) -> Result<()> {
    use mailbox::Host;
    all.interface = "mailbox";
    all.add("send", |d, (to, body)| d.send(to, body))?;
    all.add("send-to", |d, (to, body)| d.send_to(to, body))?;
    all.add("cast", |d, (to, body)| Host::cast(d, to, body))?;
    all.add("request", |d, (to, body, ms)| {
        Host::request(d, to, body, ms)
    })?;
    all.add("forget", |d, (request,)| Host::forget(d, request))?;
    all.add("reply", |d, (to, body)| Host::reply(d, to, body))?;
    // As `mailbox::Host::next`, without a copy in the bindings' form.
    let next = |d: &mut ActorData, ()| Ok(d.next_message());
    all.add_with("next", next, |guest| guest.tell_more_waits())
}

fn processes(all: &mut Imports) -> Result<()> {
    use process::Host;
    all.interface = "process";
    all.add("self", |d, ()| d.self_())?;
    all.add("spawn", |d, (module, args, options)| {
        Host::spawn(d, module, args, options)
    })?;
    all.add("spawn-on", |d, (node, module, args, options)| {
        Host::spawn_on(d, node, module, args, options)
    })?;
    all.add("link", |d, (to,)| Host::link(d, to))?;
    all.add("unlink", |d, (to,)| Host::unlink(d, to))?;
    all.add("monitor", |d, (target,)| Host::monitor(d, target))?;
    all.add("demonitor", |d, (monitor,)| Host::demonitor(d, monitor))?;
    all.add("exit", |d, (target, reason)| Host::exit(d, target, reason))?;
    all.add("trap-exit", |d, (on,)| Host::trap_exit(d, on))?;
    all.add("is-alive", |d, (target,)| Host::is_alive(d, target))?;
    all.add("group-leader", |d, ()| Host::group_leader(d))?;
    all.add("set-group-leader", |d, (target, leader)| {
        Host::set_group_leader(d, target, leader)
    })?;
    all.add("alias", |d, (mode,)| Host::alias(d, mode))?;
    all.add("unalias", |d, (alias,)| Host::unalias(d, alias))?;
    all.add("info", |d, (target,)| Host::info(d, target))?;
    all.add("tighten", |d, (limits,)| Host::tighten(d, limits))
}

fn names(all: &mut Imports) -> Result<()> {
    all.interface = "registry";
    all.add("register", |d, (name, actor)| {
        registry::Host::register(d, name, actor)
    })?;
    all.add("unregister", |d, (name,)| {
        registry::Host::unregister(d, name)
    })?;
    all.add("whereis", |d, (name,)| registry::Host::whereis(d, name))?;
    all.add("registered", |d, ()| registry::Host::registered(d))?;
    all.interface = "global";
    all.add("register", |d, (name, actor)| {
        global::Host::register(d, name, actor)
    })?;
    all.add("register-with", |d, (name, actor, by)| {
        global::Host::register_with(d, name, actor, by)
    })?;
    all.add("re-register", |d, (name, actor, by)| {
        global::Host::re_register(d, name, actor, by)
    })?;
    all.add("set-lock", |d, (resource, requester, ms)| {
        global::Host::set_lock(d, resource, requester, ms)
    })?;
    all.add("del-lock", |d, (resource, requester)| {
        global::Host::del_lock(d, resource, requester)
    })?;
    all.add("unregister", |d, (name,)| global::Host::unregister(d, name))?;
    all.add("whereis", |d, (name,)| global::Host::whereis(d, name))?;
    all.add("registered", |d, ()| global::Host::registered(d))?;
    all.interface = "groups";
    all.add("join", |d, (scope, group, actors)| {
        groups::Host::join(d, scope, group, actors)
    })?;
    all.add("leave", |d, (scope, group, actors)| {
        groups::Host::leave(d, scope, group, actors)
    })?;
    all.add("members", |d, (scope, group)| {
        groups::Host::members(d, scope, group)
    })?;
    all.add("local-members", |d, (scope, group)| {
        groups::Host::local_members(d, scope, group)
    })?;
    all.add("which-groups", |d, (scope,)| {
        groups::Host::which_groups(d, scope)
    })?;
    all.add("which-local-groups", |d, (scope,)| {
        groups::Host::which_local_groups(d, scope)
    })?;
    all.add("monitor", |d, (scope, group)| {
        groups::Host::monitor(d, scope, group)
    })?;
    all.add("monitor-scope", |d, (scope,)| {
        groups::Host::monitor_scope(d, scope)
    })?;
    all.add("demonitor", |d, (monitor,)| {
        groups::Host::demonitor(d, monitor)
    })
}

fn surroundings(all: &mut Imports) -> Result<()> {
    all.interface = "node";
    all.add("name", |d, ()| node::Host::name(d))?;
    all.add("nodes", |d, (which,)| node::Host::nodes(d, which))?;
    all.add("node-of", |d, (actor,)| node::Host::node_of(d, actor))?;
    all.add("connect", |d, (node,)| node::Host::connect(d, node))?;
    all.add("disconnect", |d, (node,)| node::Host::disconnect(d, node))?;
    all.add("monitor-nodes", |d, (on,)| node::Host::monitor_nodes(d, on))?;
    all.add("monitor-node", |d, (of, on)| {
        node::Host::monitor_node(d, of, on)
    })?;
    all.interface = "timer";
    all.add("start", |d, (ms,)| timer::Host::start(d, ms))?;
    all.add("send-after", |d, (ms, to, body)| {
        timer::Host::send_after(d, ms, to, body)
    })?;
    all.add("cancel", |d, (timer,)| timer::Host::cancel(d, timer))?;
    all.add("now", |d, ()| timer::Host::now(d))?;
    all.add("wall-clock", |d, ()| timer::Host::wall_clock(d))?;
    all.add("random", |d, ()| timer::Host::random(d))?;
    all.interface = "code";
    all.add("current", |d, ()| code::Host::current(d))?;
    all.add("modules", |d, ()| code::Host::modules(d))?;
    all.interface = "io";
    all.add("print", |d, (text,)| io::Host::print(d, text))?;
    all.add("print-error", |d, (text,)| io::Host::print_error(d, text))?;
    all.add("read-line", |d, (ms,)| io::Host::read_line(d, ms))?;
    all.add("log", |d, (level, text, fields)| {
        io::Host::log(d, level, text, fields)
    })
}

fn load_params<P: Lift>(at: u32, memory: &[u8]) -> Result<P> {
    let at = at as usize;
    if !at.is_multiple_of(P::ALIGN) {
        bail!("a pointer to arguments is not aligned");
    }
    P::load(memory, at)
}

struct Imports {
    linker: Linker<ActorData>,
    interface: &'static str,
}

impl Imports {
    fn add<P, R, F>(&mut self, name: &str, function: F) -> Result<()>
    where
        P: Lift,
        R: Lower,
        F: Fn(&mut ActorData, P) -> Result<R> + Send + Sync + 'static,
    {
        self.add_with(name, function, |_| Ok(()))
    }

    /// Adds a function, and what is done beside when its result is of more than one argument.
    fn add_with<P, R, F, B>(&mut self, name: &str, function: F, beside: B) -> Result<()>
    where
        P: Lift,
        R: Lower,
        F: Fn(&mut ActorData, P) -> Result<R> + Send + Sync + 'static,
        B: Fn(&mut Guest<'_>) -> Result<()> + Send + Sync + 'static,
    {
        let (mut params, mut results) = (Vec::new(), Vec::new());
        // More than this many arguments lie in memory, and there is a pointer to them.
        match P::FLATS > MAX_FLAT_PARAMS {
            true => params.push(ValType::I32),
            false => P::flatten(&mut params),
        }
        let arguments = params.len();
        R::flatten(&mut results);
        // A result of more than one argument goes where the last parameter points.
        if R::FLATS > 1 {
            params.push(ValType::I32);
            results.clear();
        }
        let ty = FuncType::new(self.linker.engine(), params, results);
        let interface = format!("wasm-node:actor/{}@0.1.0", self.interface);
        let call = move |mut caller: wasmtime::Caller<'_, ActorData>,
                         slots: &mut [std::mem::MaybeUninit<ValRaw>]| {
            let Some(space) = caller.data().space else {
                bail!("a start function must not call the host");
            };
            if space.initializing {
                caller.data_mut().initialized_by_host = true;
            }
            let flats = arguments + usize::from(R::FLATS > 1);
            // SAFETY: the caller has initialised as many slots as the type has parameters, and
            // these are as many.
            let flats = unsafe { &*(&raw const slots[..flats] as *const [ValRaw]) };
            let memory = space.memory.data(&caller);
            let params = match P::FLATS > MAX_FLAT_PARAMS {
                true => load_params(flats[0].get_u32(), memory)?,
                false => P::lift(flats, memory)?,
            };
            let to = flats.last().map_or(0, ValRaw::get_u32) as usize;
            let result = function(caller.data_mut(), params)?;
            if R::FLATS > 1 {
                if !to.is_multiple_of(R::ALIGN) {
                    bail!("a pointer for results is not aligned");
                }
                let mut guest = Guest::new(caller.as_context_mut(), space);
                guest.result(result, to)?;
                return beside(&mut guest);
            }
            if let (1, Some(slot)) = (R::FLATS, slots.first_mut()) {
                slot.write(ValRaw::u64(result.scalar()));
            }
            Ok(())
        };
        // SAFETY: `call` reads as many parameters as `ty` has, by their types, and writes a
        // result of its type.
        unsafe {
            self.linker.func_new_unchecked(&interface, name, ty, call)?;
        }
        Ok(())
    }
}
