/** Names of the searches that jobs are about: a job knows the number only. */
import * as api from "../../core/api.js";
import { useEffect, useRef, useState } from "../../core/ui.js";

/** Number -> name, as far as it is known by now. */
export function useSearchNames(jobs) {
  const [names, setNames] = useState({});
  const asked = useRef(new Set());
  const wanted = [...new Set(jobs.map((job) => job.search_id))].filter((id) => id !== null && !asked.current.has(id));
  useEffect(() => {
    for (const id of wanted) {
      asked.current.add(id);
      api.get(`searches/${id}`).then(({ name }) => setNames((was) => ({ ...was, [id]: name })), () => asked.current.delete(id));
    }
  }, [wanted.join()]);
  return names;
}
